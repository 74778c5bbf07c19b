"""Tiny-ImageNet."""

from typing import ClassVar, Literal

from diffprobe.config.sources import Archive, Facts
from diffprobe.config.sources.download import Download


class TinyImageNet(Download):
    """Tiny-ImageNet: 110,000 images, 64x64, 200 classes. Downloaded and verified by SHA-256."""

    kind: Literal["tiny_imagenet"]
    build: ClassVar[str] = "diffprobe.data.sources.tiny_imagenet:find"
    # fmt: off
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive("tiny-imagenet-200.zip", "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821", 248_100_043),
    )
    # fmt: on

    @property
    def facts(self) -> Facts:
        return Facts(images=110_000, size=64, channels=3, classes=200, smallest=500, official=10_000)
