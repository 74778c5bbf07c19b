"""CelebA-HQ."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Path
from diffprobe.config.sources import Facts, Source


class CelebAHQ(Source):
    """CelebA-HQ as distributed: the folder `CelebAMask-HQ`, or its folder of images."""

    kind: Literal["celebahq"]
    build: ClassVar[str] = "diffprobe.data.sources.celebahq:find"

    path: Path = Field(description="Folder of the dataset.")
    attribute: str | None = Field(
        None, description="Column of `CelebAMask-HQ-attribute-anno.txt` to use as the label; null: no labels."
    )

    @property
    def facts(self) -> Facts:
        # How many images an attribute leaves in its smaller class, only reading shows.
        return Facts(
            images=30_000,
            channels=3,
            classes=2 if self.attribute else 0,
            smallest=None if self.attribute else 30_000,
            official=0,
        )
