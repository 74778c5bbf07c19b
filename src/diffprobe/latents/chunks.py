"""A finished store's rows by chunk, each in one of its views: what streams of training are filled from."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.rows import Rows, RowTypes, scatter
from diffprobe.latents.shards import CHUNK
from diffprobe.latents.store import Latents
from diffprobe.runtime.keyed import Key, bits


class LatentChunks:
    """Rows of the named splits: moments float16 (n, 2C, h, w), labels int64 (n,), what views did float32 (n, 3).

    A chunk is read in one of its views, in the next one in the next epoch, so that over as many epochs as there are
    views each is seen once.
    """

    def __init__(self, latents: Latents, splits: Sequence[str], seed: int) -> None:
        self.latents = latents
        self.chunks = [
            (split, start, min(start + CHUNK, latents.counts[split]))
            for split in splits
            for start in range(0, latents.counts[split], CHUNK)
        ]
        self.sizes = [stop - start for _, start, stop in self.chunks]
        self.labels = {split: torch.from_numpy(latents.labels(split)) for split in splits}
        self.rows = {split: torch.from_numpy(latents.rows(split)) for split in splits}
        self.tables = {split: views.view_table(latents.views[split]) for split in splits}
        self.pool = ThreadPoolExecutor(min(2, os.cpu_count() or 1))  # that read; on two cores a third was no faster
        self.first_view = bits(Key(seed, "first view"), torch.arange(len(self.chunks)), 1)[:, 0].tolist()

    @property
    def chunk_bytes(self) -> int:
        """Of a whole chunk's moments."""
        return CHUNK * self.latents.row_bytes

    def views(self, number: int) -> int:
        """How many views a chunk has."""
        return len(self.latents.views[self.chunks[number][0]])

    def view(self, epoch: int, number: int) -> int:
        """The one of an epoch."""
        return (self.first_view[number] + epoch) % self.views(number)

    @property
    def row_types(self) -> RowTypes:
        """Of moments, labels and what views did."""
        return (self.latents.stored_shape, torch.float16), ((), torch.int64), ((views.LABEL_DIM,), torch.float32)

    def fill(self, view: int, number: int, window: Rows, places: Tensor) -> None:
        """A chunk's moments, in one of its views, to these places of a window, int64 (n,); a row whose place is -1 to
        none. Raises UserError where the store is damaged.
        """
        split, start, _ = self.chunks[number]
        rows = window[0].flatten(1).view(torch.uint8).numpy()  # (n, bytes of a row)
        self.latents.shards[split].read(view, start // CHUNK, rows, places.numpy())

    def fill_labels(self, chosen: Sequence[int], numbers: Sequence[int], window: Rows, places: Tensor) -> None:
        """Labels, and what views did, of all rows of these chunks, each in its chosen view, to their places; all at
        once, since so many small operations chunk by chunk would take longer than reading.
        """
        labels, rows, kinds = [], [], []
        for view, number in zip(chosen, numbers, strict=True):
            split, start, stop = self.chunks[number]
            labels.append(self.labels[split][start:stop])
            rows.append(self.rows[split][start:stop])
            kinds.append(self.tables[split][view].expand(stop - start, -1))
        did = views.augment_labels(torch.cat(kinds), torch.cat(rows), self.latents.identity["seed"])
        for whole, part in zip(window[1:], (torch.cat(labels), did), strict=True):
            scatter(whole.numpy(), places.numpy(), part.numpy())
