"""CelebA-HQ: the folder of CelebAMask-HQ (Lee et al. 2020), its image folder, or any flat folder of the images."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources.names import raw, shown
from diffprobe.data.sources.tree import unlabelled
from diffprobe.data.sources.walk import walk
from diffprobe.runtime.errors import UserError

IMAGES = "CelebA-HQ-img"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
VALUES = {"-1": 0, "1": 1}


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """The images in the order of their numbers; labels only where `attribute` names one of CelebAMask-HQ's 40.

    Raises:
        UserError: no image, no such attribute, an image that the attributes' file does not have.
    """
    path = Path(source["path"]).expanduser()
    root = path / IMAGES if (path / IMAGES).is_dir() else path
    names = sorted(walk(root, deep=False)[0], key=by_number)
    attribute = source["attribute"]
    labels, classes = unlabelled(len(names)), ()
    if attribute is not None:
        file = next((folder / ATTRIBUTES for folder in (path, root.parent) if (folder / ATTRIBUTES).is_file()), None)
        if file is None:
            raise UserError(f"{shown(path)}: holds no {ATTRIBUTES}; add it or leave `attribute` out")
        labels, classes = read(file, attribute, names), (f"not {attribute}", attribute)
    return Listing(labels, classes, None, "CelebA-HQ folder", Files((root,), [(0, name) for name in names]))


def by_number(name: str) -> tuple[int, bytes]:
    """Numbered files by their numbers, then all others by their bytes."""
    stem = PurePosixPath(name).stem
    return (int(stem), b"") if stem.isascii() and stem.isdigit() else (1 << 63, raw(name))


def read(file: Path, attribute: str, names: Sequence[str]) -> np.ndarray:
    """Whether each image has the attribute, int64 (N,).

    The file's first line is a count, its second the attributes' names; then "0.jpg -1 1 ..." for each image.
    """
    _, header, *lines = [*file.read_text(encoding="utf-8", errors="replace").splitlines(), "", ""]
    columns = header.split()
    if attribute not in columns:
        raise UserError(f"{shown(file)}: has no attribute {shown(attribute)}; it has {' '.join(columns)[:800]}")
    column = 1 + columns.index(attribute)
    rows = {row[0]: row[column] for row in map(str.split, lines) if len(row) == 1 + len(columns)}
    bad = next((name for name in names if rows.get(name) not in VALUES), None)
    if bad is not None:
        raise UserError(f"{shown(file)}: has no whole line for {shown(bad)}; fetch it again or leave `attribute` out")
    return np.array([VALUES[rows[name]] for name in names], dtype=np.int64)
