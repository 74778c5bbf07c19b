"""CelebA-HQ: the folder of CelebAMask-HQ (Lee et al. 2020), its image folder, or any flat folder of the images."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from diffprobe.config.sources.celebahq import CelebAHQ
from diffprobe.data.filenames import display, name_bytes
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources.folder import walk
from diffprobe.data.sources.text import read_lines
from diffprobe.data.sources.tree import unlabelled
from diffprobe.runtime.errors import UserError

IMAGES = "CelebA-HQ-img"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
LABELS = {"-1": 0, "1": 1}


def find(source: CelebAHQ, archives: Mapping[str, Path]) -> Listing:
    """The images by number; labelled only where `attribute` names one of CelebAMask-HQ's 40.

    Raises:
        UserError: no image, no such attribute, or an image that the attribute file does not list.
    """
    path = Path(source.path).expanduser()
    # The folder of CelebAMask-HQ holds the masks too, under other folders.
    root = path / IMAGES if (path / IMAGES).is_dir() else path
    contents = walk(root, deep=False)
    names, survey = sorted(contents.images, key=by_number), contents.survey.finished()
    files = Files((root,), [(0, name) for name in names])
    if source.attribute is None:
        return Listing(unlabelled(len(names)), (), None, "CelebA-HQ folder", files, survey)
    table = next((folder / ATTRIBUTES for folder in (path, root.parent) if (folder / ATTRIBUTES).is_file()), None)
    if table is None:
        raise UserError(f"{display(path)}: holds no {ATTRIBUTES}; add it or leave `attribute` out")
    labels = read_attribute(table, source.attribute, names)
    return Listing(labels, (f"not {source.attribute}", source.attribute), None, "CelebA-HQ folder", files, survey)


def by_number(name: str) -> tuple[int, bytes]:
    """A sort key: numbered files by their numbers, then all others by their bytes."""
    stem = PurePosixPath(name).stem
    return (int(stem), b"") if stem.isascii() and stem.isdigit() else (1 << 63, name_bytes(name))


def read_attribute(file: Path, attribute: str, names: Sequence[str]) -> np.ndarray:
    """Whether each image has the attribute, int64 (N,).

    The file's first line is a count, its second the attributes' names; then "0.jpg -1 1 ..." for each image.
    """
    _, header, *lines = [*read_lines(file), "", ""]
    columns = header.split()
    if attribute not in columns:
        raise UserError(f"{display(file)}: has no attribute {display(attribute)}; it has {' '.join(columns)[:800]}")
    column = 1 + columns.index(attribute)
    values = {row[0]: row[column] for row in map(str.split, lines) if len(row) == 1 + len(columns)}
    # A missing or truncated line has no value; so has one with something else than -1 and 1.
    bad = next((name for name in names if values.get(name) not in LABELS), None)
    if bad is not None:
        raise UserError(
            f"{display(file)}: has no complete line for {display(bad)}; download it again or leave `attribute` out"
        )
    return np.array([LABELS[values[name]] for name in names], dtype=np.int64)
