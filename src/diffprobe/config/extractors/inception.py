"""Inception-v3."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import File
from diffprobe.config.extractors import Extractor


class InceptionExtractor(Extractor):
    """The Inception-v3 used for FID (pytorch-fid's port). Use it for published results."""

    kind: Literal["inception"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.inception:make"

    dims: Literal[64, 192, 768, 2048] = Field(
        2048, description="Feature layer, by width. FID requires 2048, sFID at least 768."
    )
    weights: File | None = Field(
        None,
        description="Local weights file (.pth or .safetensors); null: download pytorch-fid's.",
    )

    @property
    def printed_name(self) -> str:
        return f"inception_{self.dims}"

    @property
    def figures(self) -> frozenset[str]:
        # sFID uses a map of the layer that also gives the 768 features; IS needs the final logits.
        least = {"sfid": 768, "fid": 2048, "is": 2048}
        return frozenset(figure for figure, dims in least.items() if self.dims >= dims)
