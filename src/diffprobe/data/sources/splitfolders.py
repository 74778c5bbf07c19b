"""Folders that are splits, and the class folders below them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from diffprobe.data.filenames import display, printable, sort_names, spelling
from diffprobe.data.sources.splitnames import UNLIKE, split_name
from diffprobe.data.splits import SPLITS
from diffprobe.data.survey import SurveyNotes
from diffprobe.runtime.errors import UserError


def top(name: str) -> str:
    """The first folder of a name, "" for an image at the root."""
    return name.partition("/")[0] if "/" in name else ""


def split_folders(tops: Iterable[str], where: str) -> dict[str, str]:
    """The split that each folder is, if all are splits, and train is one of several; else {}.

    Raises UserError where two folders are the same split.
    """
    parts = {folder: split_name(folder) for folder in sort_names(tops)}
    splits = {folder: part.split for folder, part in parts.items()}
    # seg_train and seg_test are splits of one dataset, seg_train and old_test are not.
    if UNLIKE in parts.values() or len({part.rest for part in parts.values()}) != 1 or len(splits) < 2:
        return {}
    if "train" not in splits.values():
        return {}
    different = len(set(splits.values()))
    if different == 1 and len({*map(spelling, splits)}) == len(splits):  # train1, train2
        return {}
    if different < len(splits):
        listed = ", ".join(display(folder) for folder in splits)
        raise UserError(f"{where}: two of the folders {listed} are the same split; merge or rename them")
    return splits


def split_folders_among(names: Sequence[str], where: str) -> dict[str, str]:
    """The same where images lie at the root as well, or other folders beside splits with class folders in them."""
    tops = {top(name) for name in names} - {""}
    plain = {folder for folder in tops if split_name(folder).plain}
    several = len({split_name(folder).split for folder in plain}) > 1
    if (
        several
        and plain < tops
        and any(split_name(top(name)).split == "train" and name.count("/") > 1 for name in names)
    ):
        tops = plain if split_folders(plain, where) else tops
    return split_folders(tops, where)


def official_splits(names: Sequence[str], splits: Mapping[str, str], survey: SurveyNotes) -> np.ndarray | None:
    """The split of each image, uint8 (N,) indices into SPLITS; None where all lie in one."""
    tops = [top(name) for name in names]
    used = {folder: splits[folder] for folder in set(tops) & splits.keys()}
    if len(used) < 2:
        return None
    # With two folders the second is held out, whatever it is called: select is then cut from train.
    if len(used) == 2:
        used = {folder: "train" if split == "train" else "test" for folder, split in used.items()}
    named = (
        f"{printable(folder)} ({used[folder]})" for folder in sorted(used, key=lambda folder: used[folder] != "train")
    )
    survey.splits_from = f"folders {', '.join(named)}"
    return np.array([SPLITS.index(used[folder]) for folder in tops], dtype=np.uint8)


def folder_labels(names: Sequence[str], splits: Mapping[str, str]) -> list[str | None]:
    """The class folder that each image lies in, below the split folders if there are any; None if in none."""
    if not splits:
        return [top(name) or None for name in names]
    rests = {i: name.partition("/")[2] for i, name in enumerate(names) if top(name) in splits}
    # A zip of a folder unpacked in a folder of its name: seg_train/seg_train/cat/1.png
    if all(split_name(top(rest)) == split_name(top(names[i])) for i, rest in rests.items()):
        rests = {i: rest.partition("/")[2] for i, rest in rests.items()}
    return [top(rests[i]) or None if i in rests else None for i in range(len(names))]
