"""An endless stream of rows that lie in chunks on the disk, of which two windows are in memory.

An epoch goes once through all chunks, in an order of its own. `window` chunks at a time are loaded and their rows
permuted together; with a window of all chunks an epoch is a full permutation. The order follows from the seed, the
chunks' sizes and `window` alone. While one window is read, the next one is loaded in a thread of its own.
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
from diffprobe.data.batch import spans
from diffprobe.data.buffers import Spare
from diffprobe.data.loading import Chunks, Filling, Loading, Share, Window, load
from diffprobe.data.rows import Rows, transfer
from diffprobe.runtime.keyed import Key, permutation


class Plan(NamedTuple):
    """Of an epoch: its windows, in order."""

    chunks: list[list[int]]  # of each window
    borders: list[int]  # positions within the epoch at which windows begin, and the epoch's end


class Windows:
    """Rows by position. The window read last and the next one are kept, no other.

    Where `device` is a GPU, windows are page-locked and rows are copied there without waiting for it.
    """

    def __init__(
        self, chunks: Chunks | Filling, seed: int, window: int, device: torch.device, share: Share | None = None
    ) -> None:
        self.chunks, self.seed, self.device, self.share = chunks, seed, device, share
        self.n = sum(chunks.sizes)
        self.per_epoch = -(-len(chunks.sizes) // window)  # windows
        self.plan = lru_cache(2)(partial(plan, chunks.sizes, seed, window))
        self.memory = Spare(pinned=device.type == "cuda")
        self.loads: dict[tuple[int, int], Future[Window]] = {}  # by epoch and index
        weakref.finalize(self, keep, self.loads, ())

    def read(self, start: int, stop: int) -> Rows:
        """The rows at positions `start` to before `stop`, at least one, on the device: each (stop - start, ...).

        They are not to be changed: on a CPU they may be the window's own. Raises what the chunks raise.
        """
        found: Rows = ()
        done = 0
        for epoch, index, here in self.pieces(start, stop):
            window = self.loaded(epoch, index)
            parts = window.part(here)
            if self.device.type == "cpu" and here.stop - here.start == stop - start and here.stop < window.positions:
                return parts  # but of the end a copy, or whoever has it would hold the window beyond the next one
            found = found or tuple(
                torch.empty(stop - start, *part.shape[1:], dtype=part.dtype, device=self.device) for part in parts
            )
            for whole, part in zip(found, parts, strict=True):
                transfer(part, whole[done : done + len(part)])
            done += here.stop - here.start
            del window, parts, part  # not to be held while the one after the next window is begun
        return found

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, slice]]:
        """Positions `start` to before `stop` by windows: (epoch, index of the window, rows of the window)."""
        for epoch, begin, end in spans(start, stop, self.n):
            borders = self.plan(epoch).borders
            index = bisect(borders, begin) - 1
            while begin < end:
                until = min(end, borders[index + 1])
                yield epoch, index, slice(begin - borders[index], until - borders[index])
                begin, index = until, index + 1

    def loaded(self, epoch: int, index: int) -> Window:
        """A window, once it is there; then the next one is begun."""
        following = (epoch, index + 1) if index + 1 < self.per_epoch else (epoch + 1, 0)
        keep(self.loads, ((epoch, index), following))
        window = self.load(epoch, index).result()
        self.load(*following)
        return window

    def load(self, epoch: int, index: int) -> Future[Window]:
        """A window that is there or on its way. Its thread does not know the stream, which may be dropped meanwhile."""
        if (epoch, index) not in self.loads:
            plan = self.plan(epoch)
            known = Loading(epoch, index, epoch * self.n + plan.borders[index], plan.chunks[index])
            make = partial(load, self.chunks, self.seed, known, self.share, self.memory)
            self.loads[epoch, index] = background.begin(make)
        return self.loads[epoch, index]


def plan(sizes: Sequence[int], seed: int, window: int, epoch: int) -> Plan:
    """The windows of an epoch, of `window` chunks each; the last one may have fewer."""
    order = permutation(Key(seed, "order of chunks"), len(sizes), draw=epoch).tolist()
    chunks = [order[i : i + window] for i in range(0, len(order), window)]
    rows = [sum(sizes[number] for number in numbers) for numbers in chunks]
    return Plan(chunks, list(accumulate(rows, initial=0)))


def keep(loads: dict[tuple[int, int], Future[Window]], kept: Collection[tuple[int, int]]) -> None:
    """Drop all windows but those kept, also those on their way."""
    for key in set(loads) - set(kept):
        loads.pop(key).cancel()
