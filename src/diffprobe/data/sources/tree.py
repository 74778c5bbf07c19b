"""Labels and splits from the folders that images lie in, by the same rules for folders on disk and for zips.

Images without a label beside labelled ones are left out and counted, unless they are the majority.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diffprobe.data.filenames import display, printable, sort_names, spelling
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources.manifests import Manifest, class_ids
from diffprobe.data.sources.splitfolders import (
    folder_labels,
    official_splits,
    split_folders,
    split_folders_among,
    top,
)
from diffprobe.data.sources.splitnames import split_name
from diffprobe.data.sources.tables import Label
from diffprobe.data.survey import SurveyNotes
from diffprobe.runtime.errors import UserError

NO_LABELS = "read no labels (`labels: false` in a config, or `diffprobe run --no-labels`)"
SPLIT_FOLDERS = ("train", "test", "val", "valid", "validation", "select")
FOLDERS = "class folders"


class Tree(NamedTuple):
    """Labels int64 (M,), class names, official splits uint8 (M,) or none, and which images these are, int64 (M,)."""

    labels: np.ndarray
    classes: tuple[str, ...]
    official: np.ndarray | None
    rows: np.ndarray

    def listing(self, origin: str, files: Files, survey: SurveyNotes) -> Listing:
        used = files if len(self.rows) == len(files.entries) else files.take(self.rows)
        return Listing(self.labels, self.classes, self.official, origin, used, survey.finished())


def unlabelled(count: int) -> np.ndarray:
    return np.full(count, -1, dtype=np.int64)


def unwrapped(
    names: Sequence[str], folders: Collection[str], tolerant: bool = False
) -> tuple[list[str], Collection[str]]:
    """Names without the folders that contain everything, as long as folders are left below.

    `tolerant` ignores images at the root.
    """
    names = list(names)
    while True:
        inside = [name for name in names if "/" in name] if tolerant else names
        # Not the last level: one folder with images in it is a class.
        if len({top(name) for name in inside}) != 1 or not all(name.count("/") > 1 for name in inside):
            return names, folders
        outer = f"{top(inside[0])}/"
        names = [name.removeprefix(outer) for name in names]
        folders = [folder.removeprefix(outer) for folder in folders if f"{folder}/" != outer]


# --- trees


def unlabelled_tree(names: Sequence[str], where: str, survey: SurveyNotes) -> Tree:
    """All images without labels, with the splits of their folders."""
    inner, _ = unwrapped(names, ())
    splits = split_folders({top(name) for name in inner}, where)
    return Tree(unlabelled(len(names)), (), official_splits(inner, splits, survey), np.arange(len(names)))


def by_folder(names: Sequence[str], folders: Collection[str], where: str, survey: SurveyNotes) -> Tree:
    """Labels by the first folder below the split folders, if there are any; classes sorted by their bytes.

    `names` are the images, `folders` all folders, empty ones included, both relative and with `/`. Folders that contain
    everything, as in a zip made of a folder, are ignored. Images beside the class folders, those of a held-out split
    without class folders, and folders without images are left out.

    Raises:
        UserError: as many images beside class folders as in them, two folders for a split, or split folders without
            class folders beside other folders.
    """
    names, folders = unwrapped(names, folders, tolerant=True)
    splits = split_folders_among(names, where)
    labels: list[Label | None] = [*folder_labels(names, splits)]
    if not any(labels):
        # Without classes an image at the root is left out if there are splits, of which it belongs to none.
        if not splits:
            return Tree(unlabelled(len(names)), (), None, np.arange(len(names)))
        labels = ["" if top(name) in splits else None for name in names]
        rows = labelled_rows(names, labels, splits, where, survey, "split folders")
        inner = [names[row] for row in rows.tolist()]
        return Tree(unlabelled(len(rows)), (), official_splits(inner, splits, survey), rows)
    if not splits:
        refuse_splits_as_classes({top(name) for name in names}, where)
    leave_out_empty(names, folders, 2 if splits else 1, survey)  # classes lie below the split folders
    rows = labelled_rows(names, labels, splits, where, survey, FOLDERS)
    note_folders_in_a_class(names, labels, survey)
    survey.labels_from = FOLDERS
    return labelled_tree(names, labels, (), splits, rows, survey)


def by_manifest(names: Sequence[str], manifest: Manifest, where: str, survey: SurveyNotes) -> Tree:
    """The labels of a file; splits follow from the folders. Images without a label are left out.

    Raises UserError where most images have none, except those of held-out splits.
    """
    assert manifest.labels is not None
    rows = np.flatnonzero([label is not None for label in manifest.labels])
    inner, _ = unwrapped([names[row] for row in rows.tolist()], ())
    splits = split_folders({top(name) for name in inner}, where)
    lacking = [name for name, label in zip(names, manifest.labels, strict=True) if label is None]
    for name in lacking:
        survey.leave_out("image without a label", f"not in {manifest.name}", name)
    in_train = [name for name in lacking if not any(held_out(folder) for folder in name.split("/")[:-1])]
    if len(in_train) >= len(rows):
        raise UserError(
            f"{where}: {manifest.name} has no label for {display(in_train[0])}, nor for most of the images; add them, "
            f"or {NO_LABELS}"
        )
    survey.labels_from = manifest.name
    inner_names = dict(zip(rows.tolist(), inner, strict=True))
    all_names = [inner_names.get(i, name) for i, name in enumerate(names)]
    return labelled_tree(all_names, manifest.labels, manifest.classes, splits, rows, survey)


def labelled_tree(
    names: Sequence[str],
    labels: Sequence[Label | None],
    classes: Sequence[str],
    splits: Mapping[str, str],
    rows: np.ndarray,
    survey: SurveyNotes,
) -> Tree:
    """The images of `rows`, all of which have a label."""
    used = [label for row in rows.tolist() if (label := labels[row]) is not None]
    index, class_names = class_ids(used, classes)
    tell_apart(class_names, survey)
    absent = [name for name in classes if name not in class_names]
    if absent:
        survey.notes.append(
            f"{len(absent):,} of {len(classes):,} classes have no image ({absent[0]}); they are left out"
        )
    official = official_splits([names[row] for row in rows.tolist()], splits, survey)
    ids = np.array([index[label] for label in used], dtype=np.int64)
    return Tree(ids, tuple(printable(name) for name in class_names), official, rows)


def agrees_with_folders(names: Sequence[str], manifest: Manifest, where: str, survey: SurveyNotes) -> bool:
    """Whether the class folders divide all images as the labels of a file do: their names then say more."""
    inner, _ = unwrapped(names, (), tolerant=True)
    splits = split_folders_among(inner, where)
    pairs = set(zip(folder_labels(inner, splits), manifest.labels or (), strict=True))
    folders, labels = ({pair[i] for pair in pairs} for i in (0, 1))
    agrees = None not in folders | labels and len(pairs) == len(folders) == len(labels) and not manifest.classes
    if agrees:
        survey.notes.append(f"{manifest.name} agrees with the class folders, whose names are used")
    return agrees


# --- what is left out, told or refused


def held_out(folder: str) -> bool:
    return split_name(folder).split in ("select", "test")


def labelled_rows(
    names: Sequence[str],
    labels: Sequence[Label | None],
    splits: Mapping[str, str],
    where: str,
    survey: SurveyNotes,
    beside: str,
) -> np.ndarray:
    """The rows with a label, int64 (M,); the others are left out. Raises UserError where these are the majority."""
    rows = np.flatnonzero([label is not None for label in labels])
    if len(rows) == len(names):
        return rows
    with_labels = {top(names[row]) for row in rows.tolist()}
    stray = []
    for name, label in zip(names, labels, strict=True):
        folder = top(name)
        if label is not None:
            continue
        if splits and folder and folder not in splits:
            survey.leave_out(f"image in {printable(folder)}/", "beside the split folders", name)
        elif splits and folder and folder not in with_labels and splits[folder] != "train":
            survey.leave_out(f"image in {printable(folder)}/", "in no class folder, so without a label", name)
        else:
            survey.leave_out(f"image beside {beside}", "belongs to none of them", name)
            stray.append(name)
    if len(stray) >= len(rows):
        inside = display(names[rows[0]])
        raise UserError(
            f"{where}: images lie both beside {beside} ({display(stray[0])}) and in them ({inside}); move them, or "
            f"{NO_LABELS}"
        )
    return rows


def leave_out_empty(names: Sequence[str], folders: Collection[str], depth: int, survey: SurveyNotes) -> None:
    """Count the folders without images at the depth of classes or above."""
    filled = {"/".join(name.split("/")[:level]) for name in names for level in range(1, depth + 1)}
    empty = {folder for folder in folders if folder.count("/") < depth and folder not in filled}
    for folder in sort_names(empty):
        if folder.rpartition("/")[0] not in empty:
            survey.leave_out("folder without images", "not a class", f"{folder}/")


def note_folders_in_a_class(names: Sequence[str], labels: Sequence[Label | None], survey: SurveyNotes) -> None:
    """Note that the folders in an only class may be the classes, but for a few images beside them."""
    if len(set(labels) - {None}) > 1:
        return
    inside = [name.partition("/")[2] for name in names]
    beside = [name for name in inside if name and "/" not in name]
    folders = sort_names({top(name) for name in inside} - {""})
    if len(folders) > 1 and len(beside) < len(inside) - len(beside):
        survey.notes.append(
            f"the only class holds the folders {', '.join(map(display, folders[:3]))}; they would be the classes "
            f"without the images beside them ({display(beside[0]) if beside else 'none'})"
        )


def tell_apart(classes: Sequence[str], survey: SurveyNotes) -> None:
    """Note the classes that look the same."""
    spelled = defaultdict(list)
    for name in classes:
        spelled[spelling(name)].append(name)
    for alike in spelled.values():
        if len(alike) > 1:
            listed = ", ".join(map(ascii, alike))  # escapes, since two forms of a letter are printed alike
            survey.notes.append(
                f"the classes {listed} differ only in case, spaces or the form of their accents; merge them if they "
                "are meant as one"
            )


def refuse_splits_as_classes(tops: Collection[str], where: str) -> None:
    """Raise UserError for split folders beside other folders: they would be read as classes."""
    splits = {split_name(folder).split for folder in tops if folder.lower() in SPLIT_FOLDERS}
    others = sort_names(folder for folder in tops if folder and folder.lower() not in SPLIT_FOLDERS)
    if "train" in splits and len(splits) > 1 and others:
        raise UserError(
            f"{where}: folder {display(others[0])} lies beside split folders such as train; move it away, "
            f"or {NO_LABELS}"
        )
