"""The endless stream of training latents: any batch by its step, no more than two windows of the store in memory.

An epoch goes once through all chunks of its splits, in an order of its own. `window` chunks at a time are loaded and
their rows permuted together; with a window of all chunks an epoch is a full permutation. A chunk is read from one of
its views, from the next one in the next epoch, so that over as many epochs as there are views each is seen once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.batch import Batch
from diffprobe.latents.parts import CHUNK
from diffprobe.latents.store import Latents
from diffprobe.networks.autoencoder import posterior
from diffprobe.runtime.keyed import Key, bits, normal, permutation

K = TypeVar("K")
V = TypeVar("V")


class Chunk(NamedTuple):
    split: str
    start: int
    stop: int


class Epoch(NamedTuple):
    order: list[int]  # of the chunks
    begins: np.ndarray  # (windows,) positions within the epoch at which a window begins


class Window(NamedTuple):
    moments: Tensor  # float16 (n, 2C, h, w), in the order of the stream
    labels: Tensor  # int64 (n,)
    augment: Tensor  # float32 (n, 3): what their views have done to them


class LatentStream:
    """Full batches of latents: their order follows from (seed, epoch), their noise from (seed, position).

    `latents_as` is `sample` (of the posterior) or `mean`; `window` counts chunks of 256 rows.
    """

    def __init__(
        self,
        latents: Latents,
        splits: Sequence[str],
        batch: int,
        seed: int,
        device: torch.device,
        window: int = 64,
        latents_as: str = "sample",
    ) -> None:
        self.latents, self.batch, self.seed, self.device = latents, batch, seed, device
        self.window, self.latents_as = window, latents_as
        self.chunks = [
            Chunk(split, start, min(start + CHUNK, latents.counts[split]))
            for split in splits
            for start in range(0, latents.counts[split], CHUNK)
        ]
        self.n = sum(latents.counts[split] for split in splits)
        self.labels = {split: torch.from_numpy(latents.labels(split)) for split in splits}
        self.rows = {split: torch.from_numpy(latents.rows(split)) for split in splits}
        self.first_view = bits(Key(seed, "first view"), torch.arange(len(self.chunks)), 1)[:, 0].tolist()
        self.epochs: dict[int, Epoch] = {}
        self.windows: dict[tuple[int, int], Window] = {}

    def __getitem__(self, step: int) -> Batch:
        """The batch of step `step`, counted from 0."""
        positions = torch.arange(step * self.batch, (step + 1) * self.batch)
        c, h, w = self.latents.shape
        moments = torch.empty(self.batch, 2 * c, h, w, dtype=torch.float16)
        labels, augment = torch.empty(self.batch, dtype=torch.int64), torch.empty(self.batch, views.LABEL)
        for rows, window, found in self.pieces(int(positions[0])):
            moments[rows], labels[rows] = window.moments[found], window.labels[found]
            augment[rows] = window.augment[found]
        positions = positions.to(self.device)
        z = self.to_model(moments.to(self.device), positions)
        return Batch(z, labels.to(self.device), positions, augment.to(self.device))

    def pieces(self, first: int) -> Iterator[tuple[slice, Window, slice]]:
        """The batch at position `first` by windows: (rows of the batch, window, rows of the window)."""
        done = 0
        while done < self.batch:
            epoch, offset = divmod(first + done, self.n)
            index = int(np.searchsorted(self.epoch(epoch).begins, offset, side="right")) - 1
            begin = offset - int(self.epoch(epoch).begins[index])
            window = self.load(epoch, index)
            count = min(self.batch - done, len(window.labels) - begin)
            yield slice(done, done + count), window, slice(begin, begin + count)
            done += count

    def epoch(self, number: int) -> Epoch:
        """The plan of an epoch; that of the one asked for before is kept beside it."""
        if number not in self.epochs:
            order = permutation(Key(self.seed, "order of chunks"), len(self.chunks), draw=number).tolist()
            sizes = np.array([self.chunks[chunk].stop - self.chunks[chunk].start for chunk in order])
            begins = (np.cumsum(sizes) - sizes)[:: self.window]
            self.epochs = {**newest(self.epochs), number: Epoch(order, begins)}
        return self.epochs[number]

    def load(self, epoch: int, index: int) -> Window:
        """A window, its rows permuted as they are read; the one loaded before is kept beside it, no other."""
        if (epoch, index) not in self.windows:
            self.windows = newest(self.windows)
            numbers = self.epoch(epoch).order[index * self.window : (index + 1) * self.window]
            n = sum(self.chunks[number].stop - self.chunks[number].start for number in numbers)
            c, h, w = self.latents.shape
            moments = torch.empty(n, 2 * c, h, w, dtype=torch.float16)
            labels, augment = torch.empty(n, dtype=torch.int64), torch.empty(n, views.LABEL)
            places = permutation(Key(self.seed, f"order in windows of epoch {epoch}"), n, draw=index)
            for number in numbers:
                split, start, stop = self.chunks[number]
                here, places = places[: stop - start], places[stop - start :]
                view = self.view(epoch, number)
                moments[here] = torch.from_numpy(self.latents.moments(split, view, start, stop))
                labels[here] = self.labels[split][start:stop]
                augment[here] = self.augment(split, view, start, stop)
            self.windows[epoch, index] = Window(moments, labels, augment)
        return self.windows[epoch, index]

    def augment(self, split: str, view: int, start: int, stop: int) -> Tensor:
        """What a view has done to rows of a split, (n, 3)."""
        return views.label(self.latents.views[split][view], self.rows[split][start:stop], self.latents.identity["seed"])

    def view(self, epoch: int, number: int) -> int:
        """The view that chunk `number` is read from."""
        return (self.first_view[number] + epoch) % len(self.latents.views[self.chunks[number].split])

    def to_model(self, moments: Tensor, positions: Tensor) -> Tensor:
        """Latents in model scale, float32 (B, C, h, w), channels last in memory."""
        noise = None
        if self.latents_as == "sample":
            noise = normal(Key(self.seed, "posterior"), positions, self.latents.shape)
        z = posterior(moments.float(), noise)
        return self.latents.to_model(z).contiguous(memory_format=torch.channels_last)


def newest(cache: dict[K, V]) -> dict[K, V]:
    """The entry made last, if there is one."""
    return dict(list(cache.items())[-1:])
