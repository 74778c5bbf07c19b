"""MNIST."""

from typing import ClassVar, Literal

from diffprobe.config.sources import Archive, Facts
from diffprobe.config.sources.download import Download

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"


class MNIST(Download):
    """MNIST (LeCun et al. 1998): 70,000 handwritten digits, 28x28, greyscale. Downloaded and verified by SHA-256."""

    kind: Literal["mnist"]
    build: ClassVar[str] = "diffprobe.data.sources.mnist:find"
    # fmt: off
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive("train-images-idx3-ubyte.gz", f"{MNIST_URL}/train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        Archive("train-labels-idx1-ubyte.gz", f"{MNIST_URL}/train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        Archive("t10k-images-idx3-ubyte.gz", f"{MNIST_URL}/t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        Archive("t10k-labels-idx1-ubyte.gz", f"{MNIST_URL}/t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    )
    # fmt: on
    as_arrays: ClassVar[bool] = True

    @property
    def facts(self) -> Facts:
        return Facts(images=70_000, size=28, channels=1, classes=10, smallest=5_421, official=10_000)
