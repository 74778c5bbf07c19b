"""ImageNet."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.sources import Facts, Source


class ImageNet(Source):
    """ImageNet-1k as distributed: `train` and `val` with a folder per class, or Kaggle's layout."""

    kind: Literal["imagenet"]
    build: ClassVar[str] = "diffprobe.data.sources.imagenet:find"
    board_name: ClassVar[str] = "IN-1K"

    path: Path = Field(description="Folder of the dataset.")

    @property
    def facts(self) -> Facts:
        return Facts(images=1_331_167, channels=3, classes=1000, smallest=732, official=50_000)
