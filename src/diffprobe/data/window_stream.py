"""An endless, shuffled stream of rows that lie in chunks on disk, of which two windows are in memory.

Each epoch reads all chunks once, in an order of its own. `window` chunks at a time are loaded and their rows shuffled
together; with a window of all chunks an epoch is a full permutation. The order follows from the seed, the chunks' sizes
and `window` alone. While one window is read, a background thread loads the next.
"""

import weakref
from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache, partial
from itertools import accumulate
from typing import NamedTuple

import torch

from diffprobe.data import background
from diffprobe.data.batch import epoch_spans
from diffprobe.data.buffers import BufferPool
from diffprobe.data.rows import Rows, copy_rows
from diffprobe.data.window import ChunkFiller, ChunkReader, Share, Window, WindowSpec, load_window
from diffprobe.runtime.keyed import Key, permutation


class EpochPlan(NamedTuple):
    """The windows of an epoch, in reading order."""

    chunks: list[list[int]]  # of each window
    borders: list[int]  # positions within the epoch at which windows begin, and the epoch's end


class WindowStream:
    """Rows by position. Only the window read last and the one after it are kept.

    For a GPU, windows lie in pinned memory and copies do not wait for the device.
    """

    def __init__(
        self,
        chunks: ChunkReader | ChunkFiller,
        seed: int,
        window: int,
        device: torch.device,
        share: Share | None = None,
    ) -> None:
        self.chunks, self.seed, self.device, self.share = chunks, seed, device, share
        self.n = sum(chunks.sizes)
        self.per_epoch = -(-len(chunks.sizes) // window)  # windows, rounded up
        # Two epochs, since a window and the one after it may lie on both sides of an epoch's border.
        self.plan = lru_cache(2)(partial(plan_epoch, chunks.sizes, seed, window))
        self.pool = BufferPool(pinned=device.type == "cuda")
        self.loads: dict[tuple[int, int], Future[Window]] = {}  # by (epoch, number of the window)
        # Without this, loads of a dropped stream would run to their end.
        weakref.finalize(self, drop_others, self.loads, ())

    def read(self, start: int, stop: int) -> Rows:
        """The rows at positions [start, stop), at least one, on the device: tensors (stop - start, ...).

        Do not write to them: on a CPU they may be views of a window. Raises what the chunks raise.
        """
        rows: Rows = ()
        done = 0
        for epoch, number, span in self.pieces(start, stop):
            window = self.loaded(epoch, number)
            parts = window.slice(span)
            if self.device.type == "cpu" and span.stop - span.start == stop - start and span.stop < window.positions:
                return parts  # no copy; at a window's end a view would keep it in memory beside the next two
            rows = rows or tuple(
                torch.empty(stop - start, *part.shape[1:], dtype=part.dtype, device=self.device) for part in parts
            )
            for tensor, part in zip(rows, parts, strict=True):
                copy_rows(part, tensor[done : done + len(part)])
            done += span.stop - span.start
            del window, parts, part  # free this window before the one after next is started
        return rows

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, slice]]:
        """Positions [start, stop) cut at windows: (epoch, number of the window, positions within it)."""
        for epoch, begin, end in epoch_spans(start, stop, self.n):
            borders = self.plan(epoch).borders
            number = bisect(borders, begin) - 1  # the last window that begins at or before `begin`
            while begin < end:
                until = min(end, borders[number + 1])
                yield epoch, number, slice(begin - borders[number], until - borders[number])
                begin, number = until, number + 1

    def loaded(self, epoch: int, number: int) -> Window:
        """Wait for a window, then start loading the next."""
        following = (epoch, number + 1) if number + 1 < self.per_epoch else (epoch + 1, 0)
        drop_others(self.loads, ((epoch, number), following))
        window = self.load(epoch, number).result()
        self.load(*following)
        return window

    def load(self, epoch: int, number: int) -> Future[Window]:
        """A window that is loaded or loading."""
        if (epoch, number) not in self.loads:
            plan = self.plan(epoch)
            spec = WindowSpec(epoch, number, epoch * self.n + plan.borders[number], plan.chunks[number])
            # Nothing here refers to `self`, so that a stream can be garbage-collected while its thread still runs.
            task = partial(load_window, self.chunks, self.seed, spec, self.share, self.pool)
            self.loads[epoch, number] = background.start(task)
        return self.loads[epoch, number]


def plan_epoch(sizes: Sequence[int], seed: int, window: int, epoch: int) -> EpochPlan:
    """The windows of an epoch, of `window` chunks each; the last one may have fewer."""
    order = permutation(Key(seed, "order of chunks"), len(sizes), draw=epoch).tolist()
    chunks = [order[i : i + window] for i in range(0, len(order), window)]
    rows = [sum(sizes[number] for number in numbers) for numbers in chunks]
    return EpochPlan(chunks, list(accumulate(rows, initial=0)))


def drop_others(loads: dict[tuple[int, int], Future[Window]], kept: Collection[tuple[int, int]]) -> None:
    """Drop all windows but the kept ones; loads that still run are cancelled."""
    for key in set(loads) - set(kept):
        loads.pop(key).cancel()
