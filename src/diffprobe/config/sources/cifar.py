"""CIFAR-10 and CIFAR-100."""

from typing import ClassVar, Literal

from diffprobe.config.sources import Archive, Facts
from diffprobe.config.sources.download import Download

CIFAR_URL = "https://www.cs.toronto.edu/~kriz"


class CIFAR10(Download):
    """CIFAR-10 (Krizhevsky 2009): 60,000 images, 32x32, 10 classes. Downloaded and verified by SHA-256."""

    kind: Literal["cifar10"]
    build: ClassVar[str] = "diffprobe.data.sources.cifar:find"
    # fmt: off
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive("cifar-10-python.tar.gz", f"{CIFAR_URL}/cifar-10-python.tar.gz",
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071),
    )
    # fmt: on
    as_arrays: ClassVar[bool] = True

    @property
    def facts(self) -> Facts:
        return Facts(images=60_000, size=32, channels=3, classes=10, smallest=5_000, official=10_000)


class CIFAR100(Download):
    """CIFAR-100 (Krizhevsky 2009): 60,000 images, 32x32, 100 classes. Downloaded and verified by SHA-256."""

    kind: Literal["cifar100"]
    build: ClassVar[str] = "diffprobe.data.sources.cifar:find"
    # fmt: off
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive("cifar-100-python.tar.gz", f"{CIFAR_URL}/cifar-100-python.tar.gz",
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", 169_001_437),
    )
    # fmt: on
    as_arrays: ClassVar[bool] = True

    @property
    def facts(self) -> Facts:
        return Facts(images=60_000, size=32, channels=3, classes=100, smallest=500, official=10_000)
