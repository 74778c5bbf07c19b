"""An endless stream of rows that lie in chunks on the disk, of which two windows are in memory.

An epoch goes once through all chunks, in an order of its own. `window` chunks at a time are loaded and their rows
permuted together; with a window of all chunks an epoch is a full permutation. The order follows from the seed, the
chunks' sizes and `window` alone. While one window is read, the next one is loaded in a thread of its own.
"""

import weakref
from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import lru_cache, partial
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import ahead
from diffprobe.data.batch import spans
from diffprobe.data.spare import Spare
from diffprobe.runtime.keyed import Key, permutation

Rows = tuple[Tensor, ...]  # tensors (n, ...), the i-th entries of which belong together
Kinds = Sequence[tuple[Sequence[int], torch.dtype]]  # the shape and dtype of a row of each


class Chunks(Protocol):
    """Where rows come from. It is read by other threads than the one that made it, now and then by two."""

    sizes: Sequence[int]  # rows in each chunk

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        """The rows of these chunks, one chunk at a time. Raises UserError where one is not as it was written."""
        ...


class Filling(Protocol):
    """Chunks whose rows are written to where they belong, by several threads at a time."""

    sizes: Sequence[int]
    kinds: Kinds
    pool: Executor  # of the threads that fill

    def view(self, epoch: int, number: int) -> int:
        """The view of a chunk that is read in an epoch."""
        ...

    def fill(self, view: int, number: int, window: Rows, places: Tensor) -> None:
        """What is large of a chunk's rows to these places of a window, int64 (n,); a row whose place is -1 to none."""
        ...

    def tell(self, chosen: Sequence[int], numbers: Sequence[int], window: Rows, places: Tensor) -> None:
        """What is small of the rows of all these chunks, each in its chosen view, to their places."""
        ...


class Share(NamedTuple):
    """One process's part of every batch of positions, as `training.world` divides it: it needs no other rows."""

    rank: int
    size: int
    batch: int

    def mask(self, start: int, n: int) -> Tensor:
        """Which of the n positions from `start` on are its own, bool (n,)."""
        within = (start + torch.arange(n)) % self.batch
        first, last = (self.batch * rank // self.size for rank in (self.rank, self.rank + 1))
        return (within >= first) & (within < last)


class Window(NamedTuple):
    """Rows in the order in which they are read. Of a share, `before[i]` counts its rows before the i-th position."""

    rows: Rows
    before: Tensor | None  # int64 (n + 1,); None where all rows are there
    positions: int

    def part(self, here: slice) -> Rows:
        """The rows of these positions of the window, all of them its share's; no copies."""
        if self.before is None:
            return tuple(whole[here] for whole in self.rows)
        first, last = int(self.before[here.start]), int(self.before[here.stop])
        if last - first != here.stop - here.start:
            raise ValueError("positions of another process's share are asked for")
        return tuple(whole[first:last] for whole in self.rows)


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
            self.loads[epoch, index] = ahead.begin(make)
        return self.loads[epoch, index]


def plan(sizes: Sequence[int], seed: int, window: int, epoch: int) -> Plan:
    """The windows of an epoch, of `window` chunks each; the last one may have fewer."""
    order = permutation(Key(seed, "order of chunks"), len(sizes), draw=epoch).tolist()
    chunks = [order[i : i + window] for i in range(0, len(order), window)]
    rows = [sum(sizes[number] for number in numbers) for numbers in chunks]
    return Plan(chunks, list(accumulate(rows, initial=0)))


class Loading(NamedTuple):
    """A window that is to be loaded: number `index` of its epoch, from position `start` on."""

    epoch: int
    index: int
    start: int
    numbers: Sequence[int]  # its chunks


def load(
    chunks: Chunks | Filling, seed: int, known: Loading, share: Share | None, memory: Spare, wanted: ahead.Wanted
) -> Window:
    """A window: the rows of its chunks in the order in which they are read."""
    sizes = [chunks.sizes[number] for number in known.numbers]
    places = order(seed, known.epoch, known.index, sum(sizes))
    before = None
    if share is not None and share.size > 1:
        mine = share.mask(known.start, len(places))
        before = torch.cat([torch.zeros(1, dtype=torch.int64), mine.cumsum(0)])
        places = torch.where(mine[places], before[places], -1)
    n = len(places) if before is None else int(before[-1])
    gather = filled if hasattr(chunks, "fill") else copied
    return Window(gather(chunks, known, places.split(sizes), n, memory, wanted), before, sum(sizes))


def order(seed: int, epoch: int, index: int, n: int) -> Tensor:
    """The places in a window of the rows of its chunks, int64 (n,)."""
    return permutation(Key(seed, f"order in windows of epoch {epoch}"), n, draw=index)


def copied(
    chunks: Chunks, known: Loading, places: Sequence[Tensor], n: int, memory: Spare, wanted: ahead.Wanted
) -> Rows:
    """A window's n rows, copied to their places (of each chunk) from what is read."""
    window: Rows = ()
    for rows, here in zip(chunks.read(known.epoch, known.numbers), places, strict=True):
        if not wanted():
            raise ahead.UnwantedError
        window = window or room([(part.shape[1:], part.dtype) for part in rows], n, memory)
        for whole, part in zip(window, rows, strict=True):
            put(whole.numpy(), here.numpy(), part.numpy())
    return window


def filled(
    chunks: Filling, known: Loading, places: Sequence[Tensor], n: int, memory: Spare, wanted: ahead.Wanted
) -> Rows:
    """A window's n rows, written to their places by the chunks themselves, several at a time."""
    window, chosen = room(chunks.kinds, n, memory), [chunks.view(known.epoch, number) for number in known.numbers]

    def fill(view: int, number: int, here: Tensor) -> None:
        if not wanted():
            raise ahead.UnwantedError
        chunks.fill(view, number, window, here)

    list(chunks.pool.map(fill, chosen, known.numbers, places))
    chunks.tell(chosen, known.numbers, window, torch.cat(tuple(places)))
    return window


def transfer(rows: Tensor, place: Tensor) -> None:
    """Rows from the host to a place there, or on a GPU, which is not waited for."""
    if place.is_cuda:
        place.copy_(rows, non_blocking=True)
    else:
        place.numpy()[:] = rows.numpy()  # not by torch: see `put`


def put(rows: np.ndarray, places: np.ndarray, part: np.ndarray) -> None:
    """Each row of a part to its place, int64 (n,); a row whose place is -1 to none.

    By numpy, which wakes no other threads: those that torch wakes for it spin for longer than the copy takes.
    """
    if (places < 0).any():
        places, part = places[places >= 0], part[places >= 0]
    rows[places] = part


def room(kinds: Kinds, n: int, memory: Spare) -> Rows:
    """Tensors for n such rows, not yet filled."""
    return tuple(memory.empty((n, *shape), dtype) for shape, dtype in kinds)


def keep(loads: dict[tuple[int, int], Future[Window]], kept: Collection[tuple[int, int]]) -> None:
    """Drop all windows but those kept, also those on their way."""
    for key in set(loads) - set(kept):
        loads.pop(key).cancel()
