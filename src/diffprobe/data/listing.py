"""What a source holds before any image is decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from diffprobe.data.survey import NOTHING_ELSE, Survey

CHUNK = 256  # rows of a store that are written, hashed and read together

Entry = tuple[int, str]  # index of the archive, name inside it


@dataclass(frozen=True)
class Files:
    """Image files that are still to be decoded."""

    archives: tuple[Path, ...]  # each a folder or a zip
    entries: Sequence[Entry]  # one per image

    def take(self, rows: np.ndarray) -> Self:
        return replace(self, entries=[self.entries[row] for row in rows])


@dataclass(frozen=True)
class Masks:
    """A mask for each image, read when it is wanted."""

    names: tuple[str, ...]  # of the classes, by value
    ignore: int | None  # a further value, of no known class
    rows: np.ndarray  # int64 (N,): what to read for each image
    read: Callable[[int], np.ndarray]  # to uint8 (h, w). Raises UserError where there is none

    def take(self, rows: np.ndarray) -> Self:
        return replace(self, rows=self.rows[rows])


@dataclass(frozen=True)
class Listing:
    """The images of a source with their labels; the i-th entries of all fields belong to image i."""

    labels: np.ndarray  # int64 (N,), -1 for none
    classes: tuple[str, ...]  # names by label, () without labels
    official: np.ndarray | None  # uint8 (N,), indices into splits.SPLITS; None where the source has no splits
    origin: str  # a short description, kept as an attribute of the store
    images: np.ndarray | Files  # uint8 (N, H, W, C), or files still to be decoded
    survey: Survey = NOTHING_ELSE
    masks: Masks | None = None

    def take(self, rows: np.ndarray) -> Self:
        """The images of `rows`, int64 (M,), in that order."""
        images = self.images.take(rows) if isinstance(self.images, Files) else self.images[rows]
        official = None if self.official is None else self.official[rows]
        masks = self.masks.take(rows) if self.masks else None
        return replace(self, labels=self.labels[rows], official=official, images=images, masks=masks)
