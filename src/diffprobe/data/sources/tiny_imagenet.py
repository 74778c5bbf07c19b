"""Tiny ImageNet (CS231n, Stanford): 200 classes, 100,000 + 10,000 images of 64x64, read from the zip itself."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import wnids
from diffprobe.data.sources.names import in_order, shown
from diffprobe.data.sources.zips import members, opened
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError

ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200/"


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """train/WNID/images/*, then val/images/*, whose labels are published, as test; the zip's own test has none.

    Raises:
        UserError: a damaged zip, annotations that are missing or are not those of the images.
    """
    path = archives[ARCHIVE]
    with opened(path) as archive:
        images, _ = members(path, archive)
        train, test = ([name for name in images if name.startswith(ROOT + part)] for part in ("train/", "val/"))
        annotations = lines(path, archive, ROOT + "val/val_annotations.txt")
        words = lines(path, archive, ROOT + "words.txt")
    classes = in_order({wnid(name) for name in train})
    where = f"{shown(path)}: val_annotations.txt"
    table = dict(line.split("\t")[:2] for line in annotations if line.count("\t"))
    found = wnids.listed([name.rpartition("/")[2] for name in test], table, where)
    labels = wnids.labels_of([wnid(name) for name in train] + found, classes, where)
    official = np.repeat([SPLITS.index("train"), SPLITS.index("test")], [len(train), len(test)]).astype(np.uint8)
    files = Files((path,), [(0, name) for name in train + test])
    return Listing(labels, wnids.class_names(classes, words), official, ARCHIVE, files)


def wnid(name: str) -> str:
    """The class folder of an image of train."""
    return name.split("/")[2]


def lines(path: Path, archive: ZipFile, name: str) -> list[str]:
    try:
        return archive.read(name).decode("utf-8", "replace").splitlines()
    except KeyError:
        raise UserError(f"{shown(path)}: lacks {name}; fetch it again") from None
