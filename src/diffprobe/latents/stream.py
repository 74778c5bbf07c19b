"""The endless stream of training latents: windows of the store, noise by position.

A chunk of the store is read from one of its views, from the next one in the next epoch, so that over as many epochs
as there are views each is seen once.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.batch import Batch
from diffprobe.data.windows import Rows, Windows
from diffprobe.latents.parts import CHUNK
from diffprobe.latents.store import Latents
from diffprobe.runtime.keyed import Key, bits, normal


class LatentStream:
    """Latents: their order follows from (seed, epoch), their noise from (seed, position).

    `latents_as` is `sample` (of the posterior) or `mean`; `window` counts chunks of 256 rows.
    """

    def __init__(
        self,
        latents: Latents,
        splits: Sequence[str],
        seed: int,
        device: torch.device,
        window: int = 64,
        latents_as: str = "sample",
    ) -> None:
        self.latents, self.seed, self.latents_as = latents, seed, latents_as
        self.windows = Windows(LatentChunks(latents, splits, seed), seed, window, device)

    def read(self, start: int, stop: int) -> Batch:
        """Positions `start` to before `stop`, at least one. Raises UserError where the store is damaged."""
        moments, labels, augment = self.windows.read(start, stop)
        positions = torch.arange(start, stop, device=moments.device)
        return Batch(self.to_model(moments, positions), labels, positions, augment)

    def to_model(self, moments: Tensor, positions: Tensor) -> Tensor:
        """Moments (B, 2C, h, w) to latents in model scale, float32 (B, C, h, w), channels last in memory."""
        noise = None
        if self.latents_as == "sample":
            noise = normal(Key(self.seed, "posterior"), positions, self.latents.shape)
        return self.latents.drawn(moments, noise).contiguous(memory_format=torch.channels_last)


class LatentChunks:
    """Rows of the named splits by chunk: moments float16 (n, 2C, h, w), labels int64 (n,), what views did (n, 3)."""

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
        self.first_view = bits(Key(seed, "first view"), torch.arange(len(self.chunks)), 1)[:, 0].tolist()

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        for number in numbers:
            split, start, stop = self.chunks[number]
            view = (self.first_view[number] + epoch) % len(self.latents.views[split])
            moments = torch.from_numpy(self.latents.moments(split, view, start, stop))
            yield moments, self.labels[split][start:stop], self.augment(split, view, start, stop)

    def augment(self, split: str, view: int, start: int, stop: int) -> Tensor:
        """What a view has done to rows of a split, float32 (n, 3)."""
        return views.label(self.latents.views[split][view], self.rows[split][start:stop], self.latents.identity["seed"])
