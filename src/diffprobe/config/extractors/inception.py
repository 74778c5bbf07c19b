"""Inception-v3."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.extractors import Extractor


class InceptionExtractor(Extractor):
    """The Inception-v3 of the FID (pytorch-fid's network): the setting of real experiments."""

    kind: Literal["inception"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.inception:make"

    dims: Literal[64, 192, 768, 2048] = Field(
        2048, description="Which layer's features; only those of 2048 make an FID. From 768 on there is sFID's map."
    )
    weights: Path | None = Field(
        None,
        description="A local weights file (.pth or .safetensors); without it pytorch-fid's public download.",
    )

    @property
    def printed_name(self) -> str:
        return f"inception_{self.dims}"

    @property
    def figures(self) -> frozenset[str]:
        least = {"sfid": 768, "fid": 2048, "is": 2048}
        return frozenset(figure for figure, dims in least.items() if self.dims >= dims)
