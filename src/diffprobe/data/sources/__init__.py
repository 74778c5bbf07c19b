"""Where images come from: one module per kind of source, each a function from its settings to a `Listing`."""

from collections.abc import Mapping
from pathlib import Path

from diffprobe.data.listing import Listing
from diffprobe.data.sources import celebahq, cifar, digits, folder, imagenet, mnist, tiny_imagenet, zips

KINDS = {
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


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """What a source holds.

    `source` is its settings, `kind` among them; `archives` the downloaded files by name (see `data.downloads`),
    empty where the kind has none.

    Raises:
        UserError: something is missing, damaged or contradicts itself.
    """
    return KINDS[source["kind"]](source, archives)
