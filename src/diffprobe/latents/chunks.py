"""A finished store's rows by chunk, each in one of its views: what streams of training are filled from."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.spare import Spare
from diffprobe.data.windows import Rows
from diffprobe.latents.parts import CHUNK
from diffprobe.latents.store import Latents
from diffprobe.runtime.keyed import Key, bits


class LatentChunks:
    """Rows of the named splits: moments float16 (n, 2C, h, w), labels int64 (n,), what views did float32 (n, 3).

    A chunk is read in one of its views, in the next one in the next epoch, so that over as many epochs as there are
    views each is seen once.
    """

    threads = min(2, os.cpu_count() or 1)  # that read at a time; on two cores a third one was no faster

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
        self.spare = Spare()
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

    def room(self, n: int, pinned: bool) -> Rows:
        """Tensors for n rows, not yet filled."""
        shape = (n, *self.latents.stored_shape)
        if pinned:
            moments = torch.empty(shape, dtype=torch.float16, pin_memory=True)  # torch keeps a store of such memory
        else:
            moments = self.spare.take(n * self.latents.row_bytes).view(torch.float16).view(shape)
        labels = torch.empty(n, dtype=torch.int64, pin_memory=pinned)
        return moments, labels, torch.empty(n, views.LABEL, pin_memory=pinned)

    def fill(self, epoch: int, number: int, window: Rows, places: Tensor) -> None:
        """An epoch's view of a chunk to these places of a window, int64 (n,); a row whose place is -1 to none.

        Raises UserError where the store is damaged.
        """
        self.fill_view(self.view(epoch, number), number, window, places)

    def fill_view(self, view: int, number: int, window: Rows, places: Tensor) -> None:
        """Each row of a chunk in one of its views to its place, without a copy between, where all are wanted."""
        moments, labels, augment = window
        split, start, stop = self.chunks[number]
        shards, what, seed = self.latents.shards[split], self.latents.views[split][view], self.latents.identity["seed"]
        rows, known = self.rows[split][start:stop], self.labels[split][start:stop]
        if int(places.min()) >= 0:
            whole = moments.flatten(1).view(torch.uint8).numpy()  # (n, bytes of a row)
            shards.read(view, start // CHUNK, [whole[place] for place in places.tolist()])
        else:
            chunk = torch.empty(stop - start, *moments.shape[1:], dtype=moments.dtype)
            shards.read(view, start // CHUNK, list(chunk.flatten(1).view(torch.uint8).numpy()))
            kept = places >= 0
            places, rows, known = places[kept], rows[kept], known[kept]
            moments.index_copy_(0, places, chunk[kept])
        labels.index_copy_(0, places, known)
        augment.index_copy_(0, places, views.label(what, rows, seed))
