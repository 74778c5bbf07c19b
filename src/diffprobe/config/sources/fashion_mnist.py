"""Fashion-MNIST."""

from typing import ClassVar, Literal

from diffprobe.config.sources import Archive, Facts
from diffprobe.config.sources.download import Download

FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


class FashionMNIST(Download):
    """Fashion-MNIST (Xiao et al. 2017): 70,000 pictures of clothes, 28x28, greyscale, 10 classes. Downloaded and
    verified by SHA-256; or from Debian's package dataset-fashion-mnist, `mirror: /usr/share/datasets/fashion-mnist`.
    """

    kind: Literal["fashion_mnist"]
    build: ClassVar[str] = "diffprobe.data.sources.fashion_mnist:find"
    # The second hash is Debian's, which packs the same contents without gzip's name and date.
    # fmt: off
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive("train-images-idx3-ubyte.gz", f"{FASHION_URL}/train-images-idx3-ubyte.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880,
                ("b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",)),
        Archive("train-labels-idx1-ubyte.gz", f"{FASHION_URL}/train-labels-idx1-ubyte.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515,
                ("0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",)),
        Archive("t10k-images-idx3-ubyte.gz", f"{FASHION_URL}/t10k-images-idx3-ubyte.gz",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102,
                ("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",)),
        Archive("t10k-labels-idx1-ubyte.gz", f"{FASHION_URL}/t10k-labels-idx1-ubyte.gz",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148,
                ("8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",)),
    )
    # fmt: on
    as_arrays: ClassVar[bool] = True

    @property
    def facts(self) -> Facts:
        return Facts(images=70_000, size=28, channels=1, classes=10, smallest=6_000, official=10_000)
