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
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from diffprobe.data import ahead
from diffprobe.data.batch import spans
from diffprobe.runtime.keyed import Key, permutation

Rows = tuple[Tensor, ...]  # tensors (n, ...), the i-th entries of which belong together


class Chunks(Protocol):
    """Where rows come from. It is read by other threads than the one that made it, now and then by two."""

    sizes: Sequence[int]  # rows in each chunk

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        """The rows of these chunks, one chunk at a time. Raises UserError where one is not as it was written."""
        ...


class Plan(NamedTuple):
    """Of an epoch: its windows, in order."""

    chunks: list[list[int]]  # of each window
    borders: list[int]  # positions within the epoch at which windows begin, and the epoch's end


class Windows:
    """Rows by position. The window read last and the next one are kept, no other.

    Where `device` is a GPU, windows are page-locked and rows are copied there without waiting for it.
    """

    def __init__(self, chunks: Chunks, seed: int, window: int, device: torch.device) -> None:
        self.chunks, self.seed, self.device = chunks, seed, device
        self.n = sum(chunks.sizes)
        self.per_epoch = -(-len(chunks.sizes) // window)  # windows
        self.plan = lru_cache(2)(partial(plan, chunks.sizes, seed, window))
        self.loads: dict[tuple[int, int], Future[Rows]] = {}  # by epoch and index
        weakref.finalize(self, keep, self.loads, ())

    def read(self, start: int, stop: int) -> Rows:
        """The rows at positions `start` to before `stop`, at least one, on the device: each (stop - start, ...).

        Raises what the chunks raise.
        """
        found: Rows = ()
        done = 0
        for epoch, index, here in self.pieces(start, stop):
            loaded = self.loaded(epoch, index)
            found = found or room(loaded, stop - start, device=self.device)
            for whole, part in zip(found, loaded, strict=True):
                whole[done : done + here.stop - here.start].copy_(part[here], non_blocking=True)
            done += here.stop - here.start
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

    def loaded(self, epoch: int, index: int) -> Rows:
        """A window, once it is there; then the next one is begun."""
        following = (epoch, index + 1) if index + 1 < self.per_epoch else (epoch + 1, 0)
        keep(self.loads, ((epoch, index), following))
        window = self.load(epoch, index).result()
        self.load(*following)
        return window

    def load(self, epoch: int, index: int) -> Future[Rows]:
        """A window that is there or on its way. Its thread does not know the stream, which may be dropped meanwhile."""
        if (epoch, index) not in self.loads:
            numbers, pinned = self.plan(epoch).chunks[index], self.device.type == "cuda"
            make = partial(gather, self.chunks, self.seed, epoch, index, numbers, pinned)
            self.loads[epoch, index] = ahead.begin(make)
        return self.loads[epoch, index]


def plan(sizes: Sequence[int], seed: int, window: int, epoch: int) -> Plan:
    """The windows of an epoch, of `window` chunks each; the last one may have fewer."""
    order = permutation(Key(seed, "order of chunks"), len(sizes), draw=epoch).tolist()
    chunks = [order[i : i + window] for i in range(0, len(order), window)]
    rows = [sum(sizes[number] for number in numbers) for numbers in chunks]
    return Plan(chunks, list(accumulate(rows, initial=0)))


def gather(
    chunks: Chunks, seed: int, epoch: int, index: int, numbers: Sequence[int], pinned: bool, wanted: ahead.Wanted
) -> Rows:
    """A window: the rows of its chunks in the order in which they are read."""
    n = sum(chunks.sizes[number] for number in numbers)
    places = permutation(Key(seed, f"order in windows of epoch {epoch}"), n, draw=index)
    window: Rows = ()
    for rows in chunks.read(epoch, numbers):
        if not wanted():
            raise ahead.UnwantedError
        window = window or room(rows, n, pin_memory=pinned)
        here, places = places[: len(rows[0])], places[len(rows[0]) :]
        for whole, part in zip(window, rows, strict=True):
            whole.index_copy_(0, here, part)
    return window


def room(rows: Rows, n: int, **options: Any) -> Rows:
    """Tensors (n, ...) for such rows, not yet filled; `options` are those of torch.empty."""
    return tuple(torch.empty(n, *part.shape[1:], dtype=part.dtype, **options) for part in rows)


def keep(loads: dict[tuple[int, int], Future[Rows]], kept: Collection[tuple[int, int]]) -> None:
    """Drop all windows but those kept, also those on their way."""
    for key in set(loads) - set(kept):
        loads.pop(key).cancel()
