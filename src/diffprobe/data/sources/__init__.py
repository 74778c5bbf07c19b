"""Where images come from: one module per kind of source, each with a function from its settings to a `Listing`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffprobe.config.datasets import Source
from diffprobe.data.listing import Listing
from diffprobe.data.sources import celebahq, cifar, digits, folder, imagenet, mnist, tiny_imagenet, zips

KINDS: dict[str, Callable[[Any, Mapping[str, Path]], Listing]] = {
    "digits": digits.find,
    "mnist": mnist.find,
    "cifar10": cifar.find,
    "cifar100": cifar.find,
    "tiny_imagenet": tiny_imagenet.find,
    "celebahq": celebahq.find,
    "imagenet": imagenet.find,
    "folder": folder.find,
    "zip": zips.find,
}


def find(source: Source, archives: Mapping[str, Path]) -> Listing:
    """List the images of a source; `archives` are its downloaded files by name (see `data.downloads`), if any.

    Raises UserError where something is missing, damaged or contradictory.
    """
    return KINDS[source.kind](source, archives)
