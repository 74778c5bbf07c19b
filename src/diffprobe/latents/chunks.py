"""A finished store's rows by chunk, each chunk in one of its views: the source of training's streams."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.rows import Rows, RowTypes, scatter
from diffprobe.latents.mapped import MappedReader
from diffprobe.latents.shards import CHUNK
from diffprobe.latents.store import LatentStore
from diffprobe.runtime.keyed import Key, bits


class RowReader(Protocol):
    """Reads the moments of a split: `shards.ShardReader`, or `mapped.MappedReader`."""

    def read(self, view: int, chunk: int, rows: np.ndarray, positions: np.ndarray) -> None: ...


class LatentChunks:
    """Rows of the named splits: moments float16 (n, 2C, h, w), labels int64 (n,), augmentation labels float32 (n, 3).

    A chunk is read in one view per epoch, the next one in the next epoch: over as many epochs as there are views each
    is read once.
    """

    def __init__(self, latents: LatentStore, splits: Sequence[str], seed: int) -> None:
        self.latents = latents
        self.readers: Mapping[str, RowReader] = latents.readers  # of each split's moments
        self.kept_augment: Callable[[str, int], Tensor] | None = None  # `augment`, where its results are kept
        self.chunks = [
            (split, start, min(start + CHUNK, latents.counts[split]))
            for split in splits
            for start in range(0, latents.counts[split], CHUNK)
        ]
        self.sizes: Sequence[int] = [stop - start for _, start, stop in self.chunks]
        self.labels = {split: torch.from_numpy(latents.labels(split)) for split in splits}
        self.rows = {split: torch.from_numpy(latents.rows(split)) for split in splits}
        self.tables = {split: views.view_table(latents.views[split]) for split in splits}
        self.row_types: RowTypes = (
            (latents.stored_shape, torch.float16),
            ((), torch.int64),
            ((views.LABEL_DIM,), torch.float32),
        )
        # Readers; on two cores a third was no faster.
        self.pool: Executor = ThreadPoolExecutor(min(2, os.cpu_count() or 1))
        # Chunks start at different views, so that no epoch is of one view alone.
        self.first_view = bits(Key(seed, "first view"), torch.arange(len(self.chunks)), 1)[:, 0].tolist()

    def map(self, check: bool) -> None:
        """Read from mapped shards from now on, with checksums compared at the first read if `check`. Augmentation
        labels are kept too: they are small beside rows that fit into memory.
        """
        self.readers = {split: MappedReader(self.latents.readers[split], check) for split in self.labels}
        self.kept_augment = cache(self.augment)

    @property
    def chunk_bytes(self) -> int:
        """The moments of a whole chunk."""
        return CHUNK * self.latents.row_bytes

    def views(self, number: int) -> int:
        """How many views a chunk has."""
        return len(self.latents.views[self.chunks[number][0]])

    def view(self, epoch: int, number: int) -> int:
        """The view in which a chunk is read in an epoch."""
        return (self.first_view[number] + epoch) % self.views(number)

    def fill(self, view: int, number: int, window: Rows, positions: Tensor) -> None:
        """Copy a chunk's moments, in one of its views, to positions int64 (n,) of a window; rows with position -1 are
        skipped. Raises UserError where the store is damaged.
        """
        split, start, _ = self.chunks[number]
        rows = window[0].flatten(1).view(torch.uint8).numpy()  # (n, row_bytes)
        self.readers[split].read(view, start // CHUNK, rows, positions.numpy())

    def fill_labels(self, chosen: Sequence[int], numbers: Sequence[int], window: Rows, positions: Tensor) -> None:
        """Copy labels and augmentation labels of these chunks, each in its chosen view, to positions of a window.

        For all chunks at once: that many small operations, chunk by chunk, would take longer than reading does.
        """
        spans = [(*self.chunks[number], view) for view, number in zip(chosen, numbers, strict=True)]
        labels = torch.cat([self.labels[split][start:stop] for split, start, stop, _ in spans])
        if self.kept_augment:
            augment = torch.cat([self.kept_augment(split, view)[start:stop] for split, start, stop, view in spans])
        else:
            rows = torch.cat([self.rows[split][start:stop] for split, start, stop, _ in spans])
            tables = [self.tables[split][view].expand(stop - start, -1) for split, start, stop, view in spans]
            augment = views.augment_labels(torch.cat(tables), rows, self.latents.identity["seed"])  # (n, 3)
        for target, source in zip(window[1:], (labels, augment), strict=True):
            scatter(target.numpy(), positions.numpy(), source.numpy())

    def augment(self, split: str, view: int) -> Tensor:
        """The augmentation labels of all rows of a split in a view, float32 (N, 3)."""
        rows = self.rows[split]
        return views.augment_labels(self.tables[split][view].expand(len(rows), -1), rows, self.latents.identity["seed"])
