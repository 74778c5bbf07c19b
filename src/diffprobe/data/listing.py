"""What a source holds before any image is decoded."""

from collections.abc import Sequence
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
class Listing:
    """The images of a source with their labels; the i-th entries of all fields belong to image i."""

    labels: np.ndarray  # int64 (N,), -1 for none
    classes: tuple[str, ...]  # names by label, () without labels
    official: np.ndarray | None  # uint8 (N,), indices into splits.SPLITS; None where the source has no splits
    origin: str  # a short description, kept as an attribute of the store
    images: np.ndarray | Files  # uint8 (N, H, W, C), or files still to be decoded
    survey: Survey = NOTHING_ELSE

    def take(self, rows: np.ndarray) -> Self:
        """The images of `rows`, int64 (M,), in that order."""
        images = self.images.take(rows) if isinstance(self.images, Files) else self.images[rows]
        official = None if self.official is None else self.official[rows]
        return replace(self, labels=self.labels[rows], official=official, images=images)
