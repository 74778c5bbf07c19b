"""Features as heads see them: rows are images, columns the features of one or more cells side by side.

Chunks of rows are read when they are asked for. Where the whole fits into the memory that a job may use, it is held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprobe.evaluation.representation.chunks import BLOCK, array, read_chunk


class Part:
    """The rows of one split: an array (draws, N, D) for each cell; anything that is sliced as numpy is."""

    def __init__(self, arrays: Sequence[Any], paths: Sequence[Path | None]) -> None:
        self.arrays, self.paths = arrays, paths
        self.draws, self.rows = arrays[0].shape[:2]

    def read(self, draw: int, rows: slice) -> np.ndarray:
        """Rows of one draw, all cells side by side: (n, sum of widths)."""
        found = [read_chunk(a, path, draw, rows) for a, path in zip(self.arrays, self.paths, strict=True)]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


@dataclass
class Table:
    """Features of N images in `draws` noisy copies. `widths` are the cells' columns, in order."""

    parts: Sequence[Part]
    labels: Tensor  # int64 (N,)
    widths: Sequence[int]
    first: int = 0  # the copies seen are first .. first + draws - 1
    draws: int = 1
    held: dict[tuple[int, int], Tensor] | None = field(default=None, repr=False)  # chunks, where all fit
    averaged: bool = False  # one copy is seen, the mean of all

    def __post_init__(self) -> None:
        self.chunks = [
            (part, slice(start, min(start + BLOCK, part.rows)))
            for part in self.parts
            for start in range(0, part.rows, BLOCK)
        ]
        self.sizes = [rows.stop - rows.start for _, rows in self.chunks]
        self.starts = np.cumsum([0, *self.sizes]).tolist()

    @property
    def copies(self) -> int:
        """How many copies a reader sees."""
        return 1 if self.averaged else self.draws

    def read(self, number: int, copy: int) -> Tensor:
        """A chunk of one copy (n, sum of widths), float16 or, of a mean, float32."""
        if self.averaged:
            parts = (self.load(number, self.first + i).float() for i in range(self.draws))
            return torch.stack(list(parts)).mean(0)
        return self.load(number, self.first + copy)

    def load(self, number: int, draw: int) -> Tensor:
        if self.held is not None and (number, draw) in self.held:
            return self.held[number, draw]
        part, rows = self.chunks[number]
        found = torch.from_numpy(part.read(draw, rows))
        if self.held is not None:
            self.held[number, draw] = found
        return found

    def chunk_labels(self, number: int) -> Tensor:
        return self.labels[self.starts[number] : self.starts[number + 1]]

    def mean(self) -> "Table":
        """One copy of each image: the mean of all."""
        return replace(self, averaged=True)

    @property
    def key(self) -> tuple[int, int]:
        """Equal for views of the same features and copies."""
        return id(self.parts), self.first

    def some(self, first: int, draws: int) -> "Table":
        """Only some of the copies."""
        return replace(self, first=self.first + first, draws=draws)

    def within(self, memory: float) -> "Table":
        """Held in memory once read, where it takes no more than so many bytes."""
        held = {} if self.bytes <= memory else None
        return replace(self, held=held)

    @property
    def bytes(self) -> int:
        """Of all copies."""
        return self.draws * len(self.labels) * sum(self.widths) * 2

    def joined(self) -> "Table":
        """All cells as one."""
        return replace(self, widths=[sum(self.widths)])


@dataclass(frozen=True)
class Source:
    """Features in stores, by the level's name, with the labels of each split: what evaluators are fitted and read on.

    `fresh` are the copies that are each seed's own; None where all seeds share all.
    """

    folders: Mapping[str, Path]
    labels: Mapping[str, np.ndarray]
    augmented: bool
    fresh: int | None = None

    def table(self, cells: Sequence[tuple[str, str]], splits: Sequence[str], kind: str) -> Table:
        """Cells (level, array) of the named splits one after another; `kind` of copies: identity or augmented."""
        parts = []
        for split in splits:
            arrays = [array(self.folders[level], level, split, kind, name) for level, name in cells]
            paths = [self.folders[level] / f"{level}.zarr" / split / kind / name for level, name in cells]
            parts.append(Part(arrays, paths))
        y = torch.from_numpy(np.concatenate([self.labels[split] for split in splits]))
        return Table(parts, y, [a.shape[2] for a in parts[0].arrays], draws=parts[0].draws)

    def plain(self, cells: Sequence[tuple[str, str]], splits: Sequence[str], seeds: int) -> list[Table]:
        """Un-augmented copies for each seed."""
        whole = self.table(cells, splits, "identity")
        return [whole if self.fresh is None else whole.some(i * self.fresh, self.fresh) for i in range(seeds)]

    def fitted(self, kind: str, cells: Sequence[tuple[str, str]], splits: Sequence[str], seeds: int) -> list[Table]:
        """What an evaluator of a kind is fitted on, for each seed: augmented copies, if any, but not kNN."""
        if kind == "knn" or not self.augmented:
            return self.plain(cells, splits, seeds)
        return [self.table(cells, splits, "augmented")] * seeds


def of_tensor(features: Tensor, labels: Tensor, widths: Sequence[int] | None = None) -> Table:
    """Features (draws, N, D) that are in memory; cells of such widths side by side."""
    cells = features.split(list(widths or [features.shape[2]]), dim=2)
    part = Part([cell.numpy() for cell in cells], [None] * len(cells))
    return Table([part], labels, [cell.shape[2] for cell in cells], draws=len(features))
