"""Any TorchScript."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path, Positive
from diffprobe.config.extractors import Extractor
from diffprobe.config.names import script_name
from diffprobe.config.problems import Problem


class TorchScriptExtractor(Extractor):
    """Any network saved as TorchScript that takes images (B, 3, H, W) to features (B, D) or (B, D, h, w).

    The file is a program: it runs with your rights and can read and write your files.
    """

    kind: Literal["torchscript"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.torchscript:make"

    weights: Path = Field(description="The file.")
    size: Positive | None = Field(None, description="Height and width that images are brought to; null: as they are.")
    input: Literal["uint8", "unit", "signed", "imagenet"] = Field(
        "unit", description="What it takes: 0 to 255 as bytes, 0 to 1, -1 to 1, or normalised as for ImageNet."
    )
    # Excluded from every dump, so from job arguments and from what decides a rerun.
    trusted: bool = Field(
        False,
        exclude=True,
        description="Must be `true`: you trust whoever made the file, whose code runs with your rights.",
    )
    arguments: dict[str, bool | int | float] = Field(
        {}, description="Further arguments by name, such as `return_features: true` of EDM's Inception."
    )

    def problems(self, key: str) -> Iterator[Problem]:
        if not self.trusted:
            yield f"{key}.trusted", False, f"true, if you trust the code in {self.weights} to run"

    @property
    def printed_name(self) -> str:
        return script_name(PurePath(self.weights).stem)
