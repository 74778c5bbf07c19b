"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 + 10,000 images of 28x28, in gzipped IDX files as MNIST's."""

from collections.abc import Mapping
from pathlib import Path

from diffprobe.config.sources.download import Download
from diffprobe.data.listing import Listing
from diffprobe.data.sources.mnist import read_parts

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def find(source: Download, archives: Mapping[str, Path]) -> Listing:
    """The images of train, then those of test. Raises UserError where a file is damaged."""
    return read_parts("Fashion-MNIST", archives, CLASSES)
