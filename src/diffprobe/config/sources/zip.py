"""Any zip of images."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.sources import Facts, Source


class Zip(Source):
    """Any zip of images, with labels from a file (EDM's `dataset.json`, or `metadata.csv`) or one folder per class."""

    kind: Literal["zip"]
    build: ClassVar[str] = "diffprobe.data.sources.zips:find"

    paths: list[Path] = Field(min_length=1, description="Zip file, or several that form one dataset, in order.")
    labels: bool = Field(True, description="Whether to read labels; `false`: no labels.")

    @property
    def facts(self) -> Facts:
        return Facts(classes=None if self.labels else 0)

    @property
    def local_paths(self) -> list[str]:
        return self.paths
