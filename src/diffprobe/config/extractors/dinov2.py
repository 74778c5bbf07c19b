"""DINOv2."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import File
from diffprobe.config.extractors import Extractor


class DINOv2Extractor(Extractor):
    """DINOv2 (Oquab et al. 2023): the class token, as used for FD-DINOv2 (Stein et al. 2023)."""

    kind: Literal["dinov2"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.dinov2:make"

    size: Literal["s", "b", "l"] = Field(
        "l", description="ViT-S, B or L with patch size 14; published results use `l`."
    )
    weights: File | None = Field(
        None,
        description="Local checkpoint in Meta's or the Hugging Face hub's format (file or folder); null: download "
        "Meta's.",
    )

    @property
    def printed_name(self) -> str:
        return f"dinov2_vit{self.size}14"
