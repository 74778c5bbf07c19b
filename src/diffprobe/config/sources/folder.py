"""Any folder of images."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.sources import Facts, Source


class Folder(Source):
    """Any folder of images, with labels from a file or one sub-folder per class, below `train`, `val` and `test` or
    not.
    """

    kind: Literal["folder"]
    build: ClassVar[str] = "diffprobe.data.sources.folder:find"

    path: Path = Field(description="Folder of the images.")
    labels: bool = Field(
        True,
        description="Whether labels are read, from `dataset.json`, `metadata.csv` or sub-folders; `false`: no labels.",
    )

    @property
    def facts(self) -> Facts:
        return Facts(classes=None if self.labels else 0)
