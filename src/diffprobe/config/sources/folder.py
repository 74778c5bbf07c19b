"""Any folder of images."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.sources import Facts, Source


class Folder(Source):
    """Any folder of images: one sub-folder per class, or none, or `train`, `val`, `test` above them."""

    kind: Literal["folder"]
    build: ClassVar[str] = "diffprobe.data.sources.folder:find"

    path: Path = Field(description="The folder.")
    labels: bool = Field(True, description="Whether sub-folders are classes; `false` takes the images without.")

    @property
    def facts(self) -> Facts:
        return Facts(classes=None if self.labels else 0)

    @property
    def local_paths(self) -> list[str]:
        return [self.path]
