"""DINOv2."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.extractors import Extractor


class DINOv2Extractor(Extractor):
    """DINOv2 (Oquab et al. 2023): the class token, as the FD-DINOv2 of Stein et al. (2023) compares it."""

    kind: Literal["dinov2"]
    build: ClassVar[str] = "diffprobe.evaluation.generation.extractors.dinov2:make"

    size: Literal["s", "b", "l"] = Field("l", description="ViT-S, B or L, patches of 14; published figures use `l`.")
    weights: Path | None = Field(
        None,
        description="A local checkpoint, as Meta publishes it or as on the Hugging Face hub (file or folder); "
        "without it Meta's public download.",
    )

    @property
    def printed_name(self) -> str:
        return f"dinov2_vit{self.size}14"
