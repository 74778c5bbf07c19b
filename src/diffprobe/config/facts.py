"""What is known of a dataset before it is read: needed to check a config and to describe its cost."""

from typing import NamedTuple

from diffprobe.config.models import Dataset


class Facts(NamedTuple):
    """Images of (channels, size, size), `images` of them in `classes` classes, the smallest of `smallest` images."""

    images: int
    size: int
    channels: int
    classes: int
    smallest: int


FACTS = {"digits": Facts(images=1797, size=8, channels=1, classes=10, smallest=174)}


def facts(dataset: Dataset) -> Facts:
    return FACTS[dataset.source]
