"""dataset.json, which holds the labels of EDM's zips: {"labels": [[name, class id], ...] or null, "classes": [...]}."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from diffprobe.data.filenames import display, printable
from diffprobe.runtime.errors import UserError

NAME = "dataset.json"
FORM = '{"labels": [[name, class id], ...] or null}'


class Manifest(NamedTuple):
    """Labels int64 (N,) in the order of the images, or none; class names where the file has them."""

    labels: np.ndarray | None
    classes: tuple[str, ...]


def read(path: Path, archive: ZipFile, images: Sequence[str]) -> Manifest:
    """The labels of `images`, in their order. Raises UserError unless the file labels exactly these."""
    where = f"{display(path)}: {NAME}"
    try:
        content = json.loads(archive.read(NAME))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested a thousand times
        raise UserError(f"{where}: not JSON ({error}); write it as {FORM}") from None
    if not isinstance(content, dict) or not isinstance(content.get("labels"), list | None):
        raise UserError(f"{where}: not of the form {FORM}; correct it")
    if content.get("labels") is None:
        return Manifest(None, ())
    classes = read_classes(where, content.get("classes"))
    labels = read_labels(where, content["labels"], len(classes))
    members = set(images)
    extra = next((name for name in labels if name not in members), None)
    if extra is not None:
        raise UserError(f"{where}: labels {display(extra)}, which is not an image of the zip; correct it")
    missing = next((name for name in images if name not in labels), None)
    if missing is not None:
        raise UserError(f"{where}: has no label for {display(missing)}; add it, or set labels: false")
    return Manifest(np.array([labels[name] for name in images], dtype=np.int64), classes)


def read_classes(where: str, names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > len(set(names)):
        raise UserError(f"{where}: classes is not a list of distinct names; correct it or leave it out")
    return tuple(printable(name) for name in names)


def read_labels(where: str, pairs: list[Any], classes: int) -> dict[str, int]:
    """Class ids by image; `classes` is the number of class names, 0 if unnamed."""
    labels: dict[str, int] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UserError(f"{where}: {json.dumps(pair)[:60]} in labels is not [name, class id]; correct it")
        name, label = pair
        if type(label) is not int or label < 0:  # isinstance would accept JSON's true
            raise UserError(
                f"{where}: {display(name)} has the label {json.dumps(label)[:60]}; class ids are integers from 0"
            )
        if classes and label >= classes:
            raise UserError(f"{where}: {display(name)} has the label {label}, but there are only {classes} classes")
        if name in labels:
            raise UserError(f"{where}: labels {display(name)} twice; keep one")
        labels[name] = label
    return labels


def join(parts: Sequence[Manifest], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and class names of several zips; unnamed classes are called by their ids.

    Raises UserError where two lists of names differ, or a class has no image.
    """
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    named = {part.classes for part in parts if part.classes}
    if len(named) > 1:
        raise UserError(f"{where}: their {NAME} files name different classes; make them equal")
    # Zips that name no classes follow those that do.
    classes = named.pop() if named else tuple(map(str, range(labels.max() + 1)))
    if labels.max() >= len(classes):
        raise UserError(f"{where}: label {labels.max()}, but {NAME} names only {len(classes)} classes; name all")
    # A gap in the ids is more often a mistake than a class that happens to be absent.
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(empty):
        name = display(classes[empty[0]])
        raise UserError(f"{where}: class {name} (id {empty[0]}) has no image; number classes 0, 1, ... without gaps")
    return labels, classes
