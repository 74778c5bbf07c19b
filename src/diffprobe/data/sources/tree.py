"""Labels and splits from the folders that images lie in, by the same rules for folders on disk and for zips."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from diffprobe.data.filenames import display, printable, sort_names
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError

SPLIT_FOLDERS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation", "select"), "select")


class Tree(NamedTuple):
    """What follows from the folders: labels int64 (N,), class names, official splits uint8 (N,) or none."""

    labels: np.ndarray
    classes: tuple[str, ...]
    official: np.ndarray | None


def unlabelled(count: int) -> np.ndarray:
    return np.full(count, -1, dtype=np.int64)


def top(name: str) -> str:
    """The first folder of a name, "" for an image at the root."""
    return name.partition("/")[0] if "/" in name else ""


def split_folders(names: Sequence[str], where: str) -> dict[str, int]:
    """The folders that are splits, with their indices into SPLITS; {} where the images do not lie under such folders.

    `train` and one other make train and test; with both others, val (valid, validation, select) is `select`.
    Raises UserError where two folders are the same split.
    """
    roles = {folder: SPLIT_FOLDERS.get(folder.lower(), "") for folder in sort_names({top(name) for name in names})}
    if "" in roles.values() or "train" not in roles.values() or len(roles) < 2:
        return {}
    if len(set(roles.values())) < len(roles):
        folders = ", ".join(display(folder) for folder in roles)
        raise UserError(f"{where}: two of the folders {folders} are the same split; merge or rename them")
    # With two folders the second is held out, whatever it is called: select is then cut from train.
    if len(roles) == 2:
        return {folder: SPLITS.index("train" if role == "train" else "test") for folder, role in roles.items()}
    return {folder: SPLITS.index(role) for folder, role in roles.items()}


def below(name: str, splits: dict[str, int]) -> str:
    """A name without its split folder."""
    return name.partition("/")[2] if splits else name


def arrange(names: Sequence[str], folders: Collection[str], where: str, labels: bool) -> Tree:
    """Labels by the first folder below the split folders, if there are any; classes sorted by their bytes.

    `names` are the images, `folders` all folders, empty ones included, both relative and with `/`. Folders that contain
    everything, as in a zip made of a folder, are ignored.

    Raises:
        UserError: images both in class folders and beside them, a class folder without images, split folders
            beside other folders.
    """
    names, folders = unwrapped(names, folders)
    splits = split_folders(names, where)
    official = np.array([splits[top(name)] for name in names], dtype=np.uint8) if splits else None
    inner = [below(name, splits) for name in names]
    if not labels or not any("/" in name for name in inner):
        return Tree(unlabelled(len(names)), (), official)
    refuse_stray(names, inner, where)
    refuse_empty(names, folders, 2 if splits else 1, where)  # classes lie below the split folders
    class_folders = [top(name) for name in inner]
    classes = sort_names(set(class_folders))
    refuse_splits_as_classes(classes, where)
    index = {name: i for i, name in enumerate(classes)}
    ids = np.array([index[name] for name in class_folders], dtype=np.int64)
    return Tree(ids, tuple(printable(name) for name in classes), official)


def unwrapped(names: Sequence[str], folders: Collection[str]) -> tuple[Sequence[str], Collection[str]]:
    """Names without the folders that contain everything, as long as folders are left below."""
    # Not the last level: one folder with images in it is a class.
    while len({top(name) for name in names}) == 1 and all(name.count("/") > 1 for name in names):
        outer = f"{top(names[0])}/"
        names = [name.removeprefix(outer) for name in names]
        folders = [folder.removeprefix(outer) for folder in folders if folder.startswith(outer)]
    return names, folders


def refuse_stray(names: Sequence[str], inner: Sequence[str], where: str) -> None:
    """Raise UserError for images beside class folders, which have no class."""
    stray = [name for name, rest in zip(names, inner, strict=True) if "/" not in rest]
    if stray:
        inside = next(name for name, rest in zip(names, inner, strict=True) if "/" in rest)
        raise UserError(
            f"{where}: images lie both beside class folders ({display(stray[0])}) and in them ({display(inside)}); "
            "move them or set labels: false"
        )


def refuse_empty(names: Sequence[str], folders: Collection[str], depth: int, where: str) -> None:
    """Raise UserError for an empty folder at the depth of classes or above: more often a mistake than a wish."""
    filled = {"/".join(name.split("/")[:level]) for name in names for level in range(1, depth + 1)}
    for folder in folders:
        if folder.count("/") < depth and folder not in filled:
            raise UserError(
                f"{where}: folder {display(folder)} holds no image; add some, remove it or set labels: false"
            )


def refuse_splits_as_classes(classes: Sequence[str], where: str) -> None:
    """Raise UserError for split folders beside other folders: they would be read as classes."""
    roles = {SPLIT_FOLDERS[folder.lower()] for folder in classes if folder.lower() in SPLIT_FOLDERS}
    others = [folder for folder in classes if folder.lower() not in SPLIT_FOLDERS]
    if "train" in roles and len(roles) > 1 and others:
        raise UserError(
            f"{where}: folder {display(others[0])} lies beside split folders such as train; "
            "move it away or set labels: false"
        )
