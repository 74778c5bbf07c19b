"""What a source holds, before any image is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

CHUNK = 256  # rows of a store that are written, hashed and read together


@dataclass(frozen=True)
class Files:
    """Images that are still to be decoded, one per entry."""

    archives: tuple[Path, ...]  # each a folder or a zip
    entries: Sequence[tuple[int, str]]  # (index of the archive, name inside it), one per image

    def take(self, rows: np.ndarray) -> "Files":
        return replace(self, entries=[self.entries[row] for row in rows])


@dataclass(frozen=True)
class Listing:
    """What a source holds, before any image is decoded; row i of every part belongs to image i."""

    labels: np.ndarray  # int64 (N,), -1 where there is none
    classes: tuple[str, ...]  # () where there are no labels
    official: np.ndarray | None  # uint8 (N,), an index into splits.SPLITS where the source has splits of its own
    origin: str  # a short text for the store's attribute
    images: np.ndarray | Files  # uint8 (N, H, W, C), or files still to be decoded

    def take(self, rows: np.ndarray) -> "Listing":
        """The images of `rows`, int64 (M,), in their order."""
        images = self.images.take(rows) if isinstance(self.images, Files) else self.images[rows]
        official = None if self.official is None else self.official[rows]
        return replace(self, labels=self.labels[rows], official=official, images=images)
