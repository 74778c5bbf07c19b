"""Any TorchScript network."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import File, Pixels
from diffprobe.config.extractors import Extractor
from diffprobe.config.names import script_name
from diffprobe.config.problems import Problem


class TorchScriptExtractor(Extractor):
    """Any TorchScript network that maps images (B, 3, H, W) to features (B, D) or (B, D, h, w).

    The file is a program: it runs with your permissions and can read and write your files.
    """

    kind: Literal["torchscript"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.torchscript:make"

    weights: File = Field(description="TorchScript file.")
    size: Pixels | None = Field(None, description="Height and width that images are resized to; null: not resized.")
    input: Literal["uint8", "unit", "signed", "imagenet"] = Field(
        "unit",
        description="Input range: uint8 0 to 255, 0 to 1, -1 to 1, or normalised with ImageNet's mean and deviation.",
    )
    # Excluded from every dump, so it is in no job argument and triggers no rerun.
    trusted: bool = Field(
        False,
        exclude=True,
        description="Must be `true`: confirms that you trust the file, since its code runs with your permissions.",
    )
    arguments: dict[str, bool | int | float] = Field(
        {}, description="Further keyword arguments, such as `return_features: true` for EDM's Inception."
    )

    def problems(self, key: str) -> Iterator[Problem]:
        if not self.trusted:
            yield f"{key}.trusted", False, f"true, if you trust the code in {self.weights} to run"

    @property
    def printed_name(self) -> str:
        return script_name(PurePath(self.weights).stem)
