"""One window of a stream: the rows of some chunks, permuted together."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffprobe.data import background
from diffprobe.data.buffers import Spare
from diffprobe.data.rows import Kinds, Rows, put, room
from diffprobe.runtime.keyed import Key, permutation


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


class Loading(NamedTuple):
    """A window that is to be loaded: number `index` of its epoch, from position `start` on."""

    epoch: int
    index: int
    start: int
    numbers: Sequence[int]  # its chunks


def load(
    chunks: Chunks | Filling, seed: int, known: Loading, share: Share | None, memory: Spare, wanted: background.Wanted
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
    chunks: Chunks, known: Loading, places: Sequence[Tensor], n: int, memory: Spare, wanted: background.Wanted
) -> Rows:
    """A window's n rows, copied to their places (of each chunk) from what is read."""
    window: Rows = ()
    for rows, here in zip(chunks.read(known.epoch, known.numbers), places, strict=True):
        if not wanted():
            raise background.UnwantedError
        window = window or room([(part.shape[1:], part.dtype) for part in rows], n, memory)
        for whole, part in zip(window, rows, strict=True):
            put(whole.numpy(), here.numpy(), part.numpy())
    return window


def filled(
    chunks: Filling, known: Loading, places: Sequence[Tensor], n: int, memory: Spare, wanted: background.Wanted
) -> Rows:
    """A window's n rows, written to their places by the chunks themselves, several at a time."""
    window, chosen = room(chunks.kinds, n, memory), [chunks.view(known.epoch, number) for number in known.numbers]

    def fill(view: int, number: int, here: Tensor) -> None:
        if not wanted():
            raise background.UnwantedError
        chunks.fill(view, number, window, here)

    list(chunks.pool.map(fill, chosen, known.numbers, places))
    chunks.tell(chosen, known.numbers, window, torch.cat(tuple(places)))
    return window
