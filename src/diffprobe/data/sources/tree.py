"""Labels and splits that the folders above the images tell, the same for a folder on disk and for zips."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from diffprobe.data.sources.names import in_order, printable, shown
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError

ROLES = {
    "train": "train",
    "val": "select",
    "valid": "select",
    "validation": "select",
    "select": "select",
    "test": "test",
}


class Tree(NamedTuple):
    """What the folders tell: labels int64 (N,), class names, official splits uint8 (N,) or none."""

    labels: np.ndarray
    classes: tuple[str, ...]
    official: np.ndarray | None


def unlabelled(count: int) -> np.ndarray:
    return np.full(count, -1, dtype=np.int64)


def top(name: str) -> str:
    """The first folder of a name, "" where the image lies at the root."""
    return name.partition("/")[0] if "/" in name else ""


def split_folders(names: Sequence[str], where: str) -> dict[str, int]:
    """The folders that are splits, each with its index into SPLITS; {} where the images are not under such folders.

    `train` and one other make train and test; with both others, val (valid, validation, select) is `select`.

    Raises:
        UserError: two folders claim one split.
    """
    roles = {folder: ROLES.get(folder.lower()) for folder in in_order({top(name) for name in names})}
    if None in roles.values() or "train" not in roles.values() or len(roles) < 2:
        return {}
    if len(set(roles.values())) < len(roles):
        folders = ", ".join(shown(folder) for folder in roles)
        raise UserError(f"{where}: two of the folders {folders} are the same split; merge or rename them")
    if len(roles) == 2:
        return {folder: SPLITS.index("train" if role == "train" else "test") for folder, role in roles.items()}
    return {folder: SPLITS.index(role) for folder, role in roles.items()}


def official_splits(names: Sequence[str], splits: dict[str, int]) -> np.ndarray | None:
    """uint8 (N,), from `split_folders`; None where there are none."""
    return np.array([splits[top(name)] for name in names], dtype=np.uint8) if splits else None


def below(name: str, splits: dict[str, int]) -> str:
    """A name without its split folder."""
    return name.partition("/")[2] if splits else name


def arrange(names: Sequence[str], folders: Collection[str], where: str, labels: bool) -> Tree:
    """Labels by the first folder below the split folders, if there are any; classes in the order of their bytes.

    `names` are the images, `folders` all folders, empty ones included; both relative, with `/`.

    A folder around all others, as a zip of a folder has it, tells nothing.

    Raises:
        UserError: images both in class folders and beside them, a class folder without images, split folders
            beside other folders.
    """
    names, folders = unwrapped(names, folders)
    splits = split_folders(names, where)
    official = official_splits(names, splits)
    inner = [below(name, splits) for name in names]
    if not labels or not any("/" in name for name in inner):
        return Tree(unlabelled(len(names)), (), official)
    refuse_stray(names, inner, where)
    refuse_empty(names, folders, 2 if splits else 1, where)
    found = [top(name) for name in inner]
    classes = in_order(set(found))
    refuse_no_class(classes, where)
    index = {name: i for i, name in enumerate(classes)}
    ids = np.array([index[name] for name in found], dtype=np.int64)
    return Tree(ids, tuple(printable(name) for name in classes), official)


def unwrapped(names: Sequence[str], folders: Collection[str]) -> tuple[Sequence[str], Collection[str]]:
    """Names without the folder around all others, where there is one (or one in another)."""
    while len({top(name) for name in names}) == 1 and all(name.count("/") > 1 for name in names):
        around = f"{top(names[0])}/"
        names = [name.removeprefix(around) for name in names]
        folders = [folder.removeprefix(around) for folder in folders if folder.startswith(around)]
    return names, folders


def refuse_stray(names: Sequence[str], inner: Sequence[str], where: str) -> None:
    """Images beside class folders have no class."""
    stray = [name for name, rest in zip(names, inner, strict=True) if "/" not in rest]
    if stray:
        inside = next(name for name, rest in zip(names, inner, strict=True) if "/" in rest)
        raise UserError(
            f"{where}: images lie both beside class folders ({shown(stray[0])}) and in them ({shown(inside)}); "
            "move them or set labels: false"
        )


def refuse_empty(names: Sequence[str], folders: Collection[str], depth: int, where: str) -> None:
    """A folder down to `depth`, where classes are, that holds nothing is a mistake more often than a wish."""
    filled = {"/".join(name.split("/")[:level]) for name in names for level in range(1, depth + 1)}
    for folder in folders:
        if folder.count("/") < depth and folder not in filled:
            raise UserError(f"{where}: folder {shown(folder)} holds no image; add some, remove it or set labels: false")


def refuse_no_class(classes: Sequence[str], where: str) -> None:
    """Folders that cannot be meant as classes: split folders beside others."""
    roles = {ROLES[folder.lower()] for folder in classes if folder.lower() in ROLES}
    others = [folder for folder in classes if folder.lower() not in ROLES]
    if "train" in roles and len(roles) > 1 and others:
        raise UserError(
            f"{where}: folder {shown(others[0])} lies beside split folders such as train; "
            "move it away or set labels: false"
        )
