"""Features as evaluators see them: rows are images, columns the features of one or more cells side by side.

Chunks of rows are read when they are needed; a table that fits into the memory that a job may use is held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import zarr
from torch import Tensor

from diffprobe.evaluation.representation.chunks import CHANNELS, REMEDY, array, block_rows
from diffprobe.runtime.arrays import read_array
from diffprobe.runtime.errors import UserError

StoredArray = zarr.Array | np.ndarray  # (draws, N, D)


class SplitFeatures:
    """Features of the images of one split: an array (draws, N, D) per cell, on disk or in memory.

    A cell without noise has a single draw, or two with mirror images, which go with the draws of the others in turn, as
    these alternate too.
    """

    def __init__(self, arrays: Sequence[StoredArray]) -> None:
        self.arrays = arrays
        self.draws: int = max(a.shape[0] for a in arrays)
        self.rows: int = arrays[0].shape[1]
        self.block = min(block_rows(a.shape[2]) for a in arrays)  # rows that are read at a time

    def read(self, draw: int, rows: slice) -> np.ndarray:
        """Rows of one draw, all cells side by side: (n, sum of widths). UserError where a chunk is damaged."""
        at = [draw % a.shape[0] for a in self.arrays]
        columns = [
            a[i, rows] if isinstance(a, np.ndarray) else read_array(a, REMEDY, i, rows)
            for a, i in zip(self.arrays, at, strict=True)
        ]
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


@dataclass
class Table:
    """Features of N images in `draws` noisy copies, of one or more splits; `widths` of the cells in order."""

    splits: Sequence[SplitFeatures]
    labels: Tensor  # int64 (N,)
    widths: Sequence[int]
    first: int = 0  # copies first .. first + draws - 1 of those stored are seen
    draws: int = 1
    held: dict[tuple[int, int], Tensor] | None = field(default=None, repr=False)  # chunks read so far, if all fit
    averaged: bool = False  # the mean of all copies is seen as one copy
    unit: Sequence[int] = ()  # widths of the cells whose features are each divided by their Euclidean norm
    channels: int = 0  # of a token, where a row is all tokens of an image side by side; 0: unknown

    def __post_init__(self) -> None:
        self.chunks = [
            (split, slice(start, min(start + split.block, split.rows)))
            for split in self.splits
            for start in range(0, split.rows, split.block)
        ]
        self.sizes = [rows.stop - rows.start for _, rows in self.chunks]
        self.starts = np.cumsum([0, *self.sizes]).tolist()

    @property
    def copies(self) -> int:
        """The number of copies that a reader sees."""
        return 1 if self.averaged else self.draws

    def read(self, number: int, copy: int) -> Tensor:
        """A chunk of one copy (n, sum of widths), float16 or, normalised or of a mean, float32."""
        if self.averaged:
            draws = [self.load(number, self.first + i).float() for i in range(self.draws)]
            return torch.stack(draws).mean(0)
        return self.load(number, self.first + copy)

    def load(self, number: int, draw: int) -> Tensor:
        if self.held is not None and (number, draw) in self.held:
            return self.held[number, draw]
        split, rows = self.chunks[number]
        features = torch.from_numpy(split.read(draw, rows))
        if self.unit:
            features = torch.cat([F.normalize(x, dim=1) for x in features.float().split(list(self.unit), 1)], dim=1)
        if self.held is not None:
            self.held[number, draw] = features
        return features

    def chunk_labels(self, number: int) -> Tensor:
        return self.labels[self.starts[number] : self.starts[number + 1]]

    def mean(self) -> "Table":
        """One copy of each image: the mean of all."""
        return replace(self, averaged=True)

    def normalised(self) -> "Table":
        """With each cell's features, a row at a time, divided by their Euclidean norm."""
        return replace(self, unit=self.widths)

    @property
    def row_bytes(self) -> int:
        """Of the features of one image in one copy, as they are held."""
        return sum(self.widths) * (4 if self.unit else 2)  # float32, or float16

    @property
    def key(self) -> tuple[int, int]:
        """Equal for tables of the same features and copies."""
        return id(self.splits), self.first

    def some(self, first: int, draws: int) -> "Table":
        """Only some of the copies."""
        return replace(self, first=self.first + first, draws=draws)

    def within(self, memory: float) -> "Table":
        """The same table, held once it has been read if all copies take at most `memory` bytes."""
        size = self.draws * len(self.labels) * self.row_bytes
        return replace(self, held={} if size <= memory else None)

    def only(self, places: Tensor) -> "Table":
        """Some of the images, by their places int64 (M,) in increasing order, read through this table."""
        return replace(self, splits=[PickedFeatures(self, places)], labels=self.labels[places], held=None)

    def joined(self) -> "Table":
        """All cells as one."""
        return replace(self, widths=[sum(self.widths)])


class PickedFeatures(SplitFeatures):
    """Features of some images of a table, by their places int64 (M,) in increasing order."""

    def __init__(self, table: Table, places: Tensor) -> None:
        self.table, self.places = table, places
        self.draws, self.rows, self.block = table.draws, len(places), min(split.block for split in table.splits)

    def read(self, draw: int, rows: slice) -> np.ndarray:
        places = self.places[rows]
        chunks = torch.searchsorted(torch.tensor(self.table.starts), places, right=True) - 1  # (n,)
        parts = [
            self.table.load(number, draw)[places[chunks == number] - self.table.starts[number]]
            for number in chunks.unique().tolist()
        ]
        return torch.cat(parts).numpy()


@dataclass(frozen=True)
class StoredFeatures:
    """Features in stores, by the name of their level, with the labels of each split.

    `fresh` is the number of copies that each seed has to itself; None where all seeds share all copies.
    """

    folders: Mapping[str, Path]
    labels: Mapping[str, np.ndarray]
    augmented: bool
    fresh: int | None = None

    def table(self, cells: Sequence[tuple[str, str]], splits: Sequence[str], view: str) -> Table:
        """Cells (level, array) of the splits one after another; `view` is identity or augmented."""
        parts = []
        for split in splits:
            arrays = [array(self.folders[level], level, split, view, name) for level, name in cells]
            for stored in arrays:
                if stored.shape[1] != len(self.labels[split]):
                    rows = f"{stored.shape[1]} rows of {split}, not {len(self.labels[split])}"
                    raise UserError(f"{stored.store_path}: has {rows}; {REMEDY}")
            parts.append(SplitFeatures(arrays))
        y = torch.from_numpy(np.concatenate([self.labels[split] for split in splits]))
        channels = int(str(arrays[0].attrs.get(CHANNELS, 0)))
        return Table(parts, y, [a.shape[2] for a in arrays], draws=parts[0].draws, channels=channels)

    def plain_tables(self, cells: Sequence[tuple[str, str]], splits: Sequence[str], seeds: int) -> list[Table]:
        """Un-augmented copies for each seed; where there is no noise they have them in common."""
        whole = self.table(cells, splits, "identity")
        if self.fresh is None or whole.draws < seeds * self.fresh:
            return [whole] * seeds
        return [whole.some(i * self.fresh, self.fresh) for i in range(seeds)]

    def training_tables(
        self, fitted_on: str, cells: Sequence[tuple[str, str]], splits: Sequence[str], seeds: int
    ) -> list[Table]:
        """What an evaluator is fitted on, for each seed, by its `fitted_on`."""
        if fitted_on == "plain" or not self.augmented:
            return self.plain_tables(cells, splits, seeds)
        return [self.table(cells, splits, "augmented")] * seeds


def table_of(features: Tensor, labels: Tensor, widths: Sequence[int] | None = None) -> Table:
    """A table of features (draws, N, D) in memory, divided into cells of these widths (default: one cell)."""
    cells = features.split(list(widths or [features.shape[2]]), dim=2)
    split = SplitFeatures([cell.numpy() for cell in cells])
    return Table([split], labels, [cell.shape[2] for cell in cells], draws=len(features))
