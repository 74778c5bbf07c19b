"""ImageNet (ILSVRC 2012), as people have it: train/WNID and val/WNID, or the tree that Kaggle ships."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import wnids
from diffprobe.data.sources.names import in_order, shown
from diffprobe.data.sources.tree import refuse_empty, refuse_stray, top
from diffprobe.data.sources.walk import walk
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError

KAGGLE = "ILSVRC/Data/CLS-LOC"
SOLUTION = "LOC_val_solution.csv"
WORDS = "LOC_synset_mapping.txt"


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """The images of train, then those of val as test; classes in the order of their wnids.

    Raises:
        UserError: no train or val, a class without images, a flat val without LOC_val_solution.csv or with another's.
    """
    path = Path(source["path"]).expanduser()
    root = path / KAGGLE if (path / KAGGLE).is_dir() else path
    train, folders = part(root, "train")
    refuse_stray(train, train, shown(root / "train"))
    refuse_empty(train, folders, 1, shown(root / "train"))
    classes = in_order({top(name) for name in train})
    test, folders = part(root, "val")
    found, where = val_wnids(path, test, folders, shown(root / "val"))
    labels = wnids.labels_of([top(name) for name in train] + found, classes, where)
    official = np.repeat([SPLITS.index("train"), SPLITS.index("test")], [len(train), len(test)]).astype(np.uint8)
    entries = [(0, f"train/{name}") for name in train] + [(0, f"val/{name}") for name in test]
    names = wnids.class_names(classes, words(path))
    return Listing(labels, names, official, "ImageNet folder", Files((root,), entries))


def part(root: Path, name: str) -> tuple[list[str], list[str]]:
    if not (root / name).is_dir():
        raise UserError(f"{shown(root)}: holds no folder {name}, nor {KAGGLE}/{name}; check `path`")
    return walk(root / name)


def val_wnids(path: Path, images: Sequence[str], folders: Sequence[str], where: str) -> tuple[list[str], str]:
    """The wnid of each image of val, by its folder or, where val is flat, by Kaggle's table; and where it is told."""
    if any("/" in name for name in images):
        refuse_stray(images, images, where)
        refuse_empty(images, folders, 1, where)
        return [top(name) for name in images], where
    table = path / SOLUTION
    if not table.is_file():
        raise UserError(f"{where}: holds no class folders, and {shown(table)}, which tells them, is missing; add it")
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = {row[0]: row[1].split()[0] for row in csv.reader(file) if len(row) > 1 and row[1].strip()}
    rows.pop("ImageId", None)
    return wnids.listed([PurePosixPath(name).stem for name in images], rows, shown(table)), shown(table)


def words(path: Path) -> list[str]:
    file = path / WORDS
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
