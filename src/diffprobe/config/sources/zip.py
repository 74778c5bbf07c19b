"""Any zip of images."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import File
from diffprobe.config.remote import names_remote
from diffprobe.config.sources import Facts, Source


class Zip(Source):
    """Any zip of images, with labels from a file (EDM's `dataset.json`, or `metadata.csv`) or one folder per class."""

    kind: Literal["zip"]
    build: ClassVar[str] = "diffprobe.data.sources.zips:find"

    paths: list[File] = Field(
        min_length=1,
        description="Zip file, or several that form one dataset, in order. A remote one is an address with the SHA-256 "
        "behind it, `s3://bucket/faces.zip#sha256=...`.",
    )
    labels: bool = Field(True, description="Whether to read labels; `false`: no labels.")

    @property
    def facts(self) -> Facts:
        return Facts(classes=None if self.labels else 0)

    @property
    def local_paths(self) -> list[str]:
        return [path for path in self.paths if not names_remote(path)]

    @property
    def remote_files(self) -> list[str]:
        return [path for path in self.paths if names_remote(path)]
