"""The cells of a store of features, one at a time: copies of the same images at every tap and level."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
import zarr
from torch import Tensor

from diffprobe.evaluation.representation.chunks import REMEDY, StoredLevel, array, stored_levels
from diffprobe.plan.probe_arguments import GridTaps
from diffprobe.runtime.arrays import read_array


class StoredCell(NamedTuple):
    """A tap at a noise level, in a store of unaugmented images of one split."""

    level: StoredLevel
    tap: str
    split: str

    @property
    def array(self) -> zarr.Array:
        """float16 (P, n, D)."""
        return array(self.level.folder, self.level.name, self.split, "identity", self.tap)

    @property
    def bytes(self) -> int:
        """Of one copy in float32."""
        return 4 * math.prod(self.array.shape[1:])

    def copies(self) -> Tensor:
        """float32 (P, n, D). Raises UserError where a chunk is damaged or missing."""
        return torch.from_numpy(read_array(self.array, REMEDY)).float()

    def first(self) -> Tensor:
        """The first copy, float32 (n, D). Raises UserError as `copies` does."""
        return torch.from_numpy(read_array(self.array, REMEDY, 0)).float()


def stored_cells(folder: Path, taps: GridTaps, split: str) -> list[StoredCell]:
    """By rising noise, then by taps in the order of computation."""
    levels = sorted(stored_levels(folder))
    return [StoredCell(level, tap, split) for level in levels for tap in taps.taps_at(level.sigma)]
