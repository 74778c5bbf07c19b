"""dataset.json, by which EDM's zips tell labels: {"labels": [[name, class id], ...] or null, "classes": [...]}."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from diffprobe.data.sources.names import printable, shown
from diffprobe.runtime.errors import UserError

NAME = "dataset.json"
FORM = '{"labels": [[name, class id], ...] or null}'


class Manifest(NamedTuple):
    """Labels int64 (N,) in the order of the images, or none; class names where the file has them."""

    labels: np.ndarray | None
    classes: tuple[str, ...]


def read(path: Path, archive: ZipFile, images: Sequence[str]) -> Manifest:
    """The labels of `images`, in their order.

    Raises:
        UserError: not in the form, or not one class id for each image.
    """
    where = f"{shown(path)}: {NAME}"
    try:
        content = json.loads(archive.read(NAME))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON ({error}); write it as {FORM}") from None
    if not isinstance(content, dict) or not isinstance(content.get("labels"), list | None):
        raise UserError(f"{where}: not in the form {FORM}; put it right")
    if content.get("labels") is None:
        return Manifest(None, ())
    classes = class_names(where, content.get("classes"))
    labels = table(where, content["labels"], len(classes))
    known = set(images)
    unknown = next((name for name in labels if name not in known), None)
    if unknown is not None:
        raise UserError(f"{where}: gives a label to {shown(unknown)}, which is no image of the zip; put it right")
    missing = next((name for name in images if name not in labels), None)
    if missing is not None:
        raise UserError(f"{where}: gives no label to {shown(missing)}; add it, or set labels: false")
    return Manifest(np.array([labels[name] for name in images], dtype=np.int64), classes)


def class_names(where: str, names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > len(set(names)):
        raise UserError(f"{where}: classes is no list of distinct names; put it right or leave it out")
    return tuple(printable(name) for name in names)


def table(where: str, pairs: list, classes: int) -> dict[str, int]:
    """Class id by name; `classes` is how many there are, 0 where the file does not say."""
    labels: dict[str, int] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UserError(f"{where}: {json.dumps(pair)[:60]} in labels is not [name, class id]; put it right")
        name, label = pair
        if type(label) is not int or label < 0:  # JSON's true is an int too
            raise UserError(
                f"{where}: {shown(name)} has the label {json.dumps(label)[:60]}; class ids are whole numbers from 0"
            )
        if classes and label >= classes:
            raise UserError(f"{where}: {shown(name)} has the label {label}, but there are only {classes} classes")
        if name in labels:
            raise UserError(f"{where}: gives {shown(name)} a label twice; leave one")
        labels[name] = label
    return labels


def join(parts: Sequence[Manifest], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and class names of several zips; classes without names are called by their ids.

    Raises:
        UserError: two lists of names differ, or a class has no image.
    """
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    named = {part.classes for part in parts if part.classes}
    if len(named) > 1:
        raise UserError(f"{where}: their {NAME} name different classes; make them equal")
    classes = named.pop() if named else tuple(map(str, range(labels.max() + 1)))
    if labels.max() >= len(classes):
        raise UserError(f"{where}: label {labels.max()}, but {NAME} names only {len(classes)} classes; name all")
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(empty):
        raise UserError(
            f"{where}: class {shown(classes[empty[0]])} (id {empty[0]}) has no image; number them 0, 1, ..."
        )
    return labels, classes
