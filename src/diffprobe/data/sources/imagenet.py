"""ImageNet (ILSVRC 2012): train/WNID and val/WNID, or the tree that Kaggle ships."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from diffprobe.config.sources.imagenet import ImageNet
from diffprobe.data.filenames import display, sort_names
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import wnids
from diffprobe.data.sources.contents import Contents
from diffprobe.data.sources.folder import walk
from diffprobe.data.sources.splitfolders import top
from diffprobe.data.sources.text import read_lines
from diffprobe.data.splits import TEST, TRAIN
from diffprobe.runtime.errors import UserError

KAGGLE = "ILSVRC/Data/CLS-LOC"
SOLUTION = "LOC_val_solution.csv"
CLASS_NAMES = "LOC_synset_mapping.txt"


def find(source: ImageNet, archives: Mapping[str, Path]) -> Listing:
    """The images of train, then those of val as test; classes sorted by their wnids.

    Raises:
        UserError: no train or val, a class without images, a flat val without its LOC_val_solution.csv.
    """
    path = Path(source.path).expanduser()
    root = path / KAGGLE if (path / KAGGLE).is_dir() else path
    train_split = walk_split(root, "train")
    train, where = train_split.images, train_split.where
    refuse_stray(train, where)
    refuse_empty(train, train_split.folders, where)
    classes = sort_names({top(name) for name in train})
    val_split = walk_split(root, "val")
    test = val_split.images
    test_wnids, where = val_wnids(path, val_split)
    labels = wnids.labels_of([top(name) for name in train] + test_wnids, classes, where)
    official = np.repeat([TRAIN, TEST], [len(train), len(test)]).astype(np.uint8)
    # Names relative to the folder that contains both, so that the listing has one archive.
    entries = [(0, f"train/{name}") for name in train] + [(0, f"val/{name}") for name in test]
    file = path / CLASS_NAMES
    lines = read_lines(file) if file.is_file() else []
    survey = train_split.survey
    survey.add(val_split.survey)
    names, files = wnids.class_names(classes, lines), Files((root,), entries)
    return Listing(labels, names, official, "ImageNet folder", files, survey.finished())


def walk_split(root: Path, name: str) -> Contents:
    if not (root / name).is_dir():
        raise UserError(f"{display(root)}: holds no folder {name}, nor {KAGGLE}/{name}; check `path`")
    return walk(root / name)


def val_wnids(path: Path, val: Contents) -> tuple[list[str], str]:
    """The wnid of each image of val, by its folder or, in a flat val, by Kaggle's table; and the name of either."""
    images, where = val.images, val.where
    if any("/" in name for name in images):
        refuse_stray(images, where)
        refuse_empty(images, val.folders, where)
        return [top(name) for name in images], where
    table = path / SOLUTION
    if not table.is_file():
        raise UserError(f"{where}: holds no class folders, and {display(table)} with their labels is missing; add it")
    # ImageId, PredictionString: "wnid x y x y" for one or more boxes. Neither is quoted, so lines need no csv reader.
    columns = (line.split(",") for line in read_lines(table))
    rows = {row[0]: row[1].split()[0] for row in columns if len(row) > 1 and row[1].strip()}
    rows.pop("ImageId", None)
    return wnids.look_up([PurePosixPath(name).stem for name in images], rows, display(table)), display(table)


def refuse_stray(names: Sequence[str], where: str) -> None:
    """Raise UserError for images beside class folders, which have no class."""
    stray = next((name for name in names if "/" not in name), None)
    if stray is not None:
        inside = next(name for name in names if "/" in name)
        raise UserError(
            f"{where}: images lie both beside class folders ({display(stray)}) and in them ({display(inside)}); "
            "move them"
        )


def refuse_empty(names: Sequence[str], folders: Sequence[str], where: str) -> None:
    """Raise UserError for a class folder without images."""
    filled = {top(name) for name in names}
    empty = next((folder for folder in folders if "/" not in folder and folder not in filled), None)
    if empty is not None:
        raise UserError(f"{where}: folder {display(empty)} holds no image; add some or remove it")
