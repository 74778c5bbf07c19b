"""One window of a stream: the rows of a few chunks, loaded from disk and shuffled together."""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from diffprobe.data.background import Cancelled
from diffprobe.data.buffers import BufferPool
from diffprobe.data.rows import Rows, RowTypes, allocate, scatter
from diffprobe.runtime.keyed import Key, permutation


class ChunkReader(Protocol):
    """Rows in chunks, read one chunk after another. Called from background threads, at times from two at once."""

    @property
    def sizes(self) -> Sequence[int]:
        """Rows in each chunk."""
        ...

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        """The rows of these chunks, one chunk at a time. Raises UserError where a chunk is damaged."""
        ...


@runtime_checkable
class ChunkFiller(Protocol):
    """Chunks in several views, each written straight to its rows' places in a window, several chunks at a time.

    Rows are written to positions int64 (n,) of the window; those with position -1 are skipped.
    """

    @property
    def sizes(self) -> Sequence[int]: ...

    @property
    def row_types(self) -> RowTypes: ...

    @property
    def pool(self) -> Executor:
        """Whose threads fill."""
        ...

    def view(self, epoch: int, number: int) -> int:
        """The view in which an epoch sees a chunk."""
        ...

    def fill(self, view: int, number: int, window: Rows, positions: Tensor) -> None:
        """Write the large part of one chunk's rows."""
        ...

    def fill_labels(self, views: Sequence[int], numbers: Sequence[int], window: Rows, positions: Tensor) -> None:
        """Write the small part (labels and the like) of the rows of all these chunks, each in its view, at once."""
        ...


class Share(NamedTuple):
    """One process's part of every batch, as `training.world` divides it; the process loads no other rows."""

    rank: int
    size: int
    batch: int

    def mask(self, start: int, n: int) -> Tensor:
        """Which of the n positions from `start` on are this process's, bool (n,)."""
        # Batches begin at multiples of `batch`; each rank has one contiguous range of every batch.
        within = (start + torch.arange(n)) % self.batch
        first, last = (self.batch * rank // self.size for rank in (self.rank, self.rank + 1))
        return (within >= first) & (within < last)


class Window(NamedTuple):
    """Rows in reading order. For a share, `before[i]` counts its own rows before position i of the window."""

    rows: Rows
    before: Tensor | None  # int64 (n + 1,); None where all rows are loaded
    positions: int

    def slice(self, span: slice) -> Rows:
        """The rows at these positions of the window, all of them the share's own; views, no copies."""
        if self.before is None:
            return tuple(tensor[span] for tensor in self.rows)
        first, last = int(self.before[span.start]), int(self.before[span.stop])
        if last - first != span.stop - span.start:
            raise ValueError("these positions belong to another process's share")
        return tuple(tensor[first:last] for tensor in self.rows)


class WindowSpec(NamedTuple):
    """Which window to load: the `number`-th of its epoch, whose first row is at position `start` of the stream."""

    epoch: int
    number: int
    start: int
    chunks: Sequence[int]


def load_window(
    chunks: ChunkReader | ChunkFiller,
    seed: int,
    spec: WindowSpec,
    share: Share | None,
    pool: BufferPool,
    cancelled: Cancelled,
) -> Window:
    """Load a window's chunks and shuffle their rows. Raises CancelledError, and what the chunks raise."""
    # Row i of the chunks, read one after another, goes to positions[i] of the window.
    sizes = [chunks.sizes[number] for number in spec.chunks]
    positions = window_order(seed, spec.epoch, spec.number, sum(sizes))
    before = None
    if share is not None and share.size > 1:
        # Only this process's rows are kept, packed: a row's place is the number of own rows before it.
        own = share.mask(spec.start, len(positions))
        before = torch.cat([torch.zeros(1, dtype=torch.int64), own.cumsum(0)])
        positions = torch.where(own[positions], before[positions], -1)
    n = len(positions) if before is None else int(before[-1])
    per_chunk = positions.split(sizes)  # int64 (n,) for each chunk
    if isinstance(chunks, ChunkFiller):
        rows = filled_rows(chunks, spec, per_chunk, n, pool, cancelled)
    else:
        rows = copied_rows(chunks, spec, per_chunk, n, pool, cancelled)
    return Window(rows, before, sum(sizes))


def window_order(seed: int, epoch: int, number: int, n: int) -> Tensor:
    """The position in a window of each of its chunks' n rows, int64 (n,)."""
    return permutation(Key(seed, f"order in windows of epoch {epoch}"), n, draw=number)


def copied_rows(
    chunks: ChunkReader, spec: WindowSpec, positions: Sequence[Tensor], n: int, pool: BufferPool, cancelled: Cancelled
) -> Rows:
    """A window's n rows, copied to their positions from the chunks as these are read."""
    window: Rows = ()
    for rows, here in zip(chunks.read(spec.epoch, spec.chunks), positions, strict=True):
        if cancelled():
            raise CancelledError
        # Only the first chunk tells the shapes and dtypes of rows.
        window = window or allocate([(part.shape[1:], part.dtype) for part in rows], n, pool)
        for tensor, part in zip(window, rows, strict=True):
            scatter(tensor.numpy(), here.numpy(), part.numpy())
    return window


def filled_rows(
    chunks: ChunkFiller, spec: WindowSpec, positions: Sequence[Tensor], n: int, pool: BufferPool, cancelled: Cancelled
) -> Rows:
    """A window's n rows, written to their positions by the chunks themselves, several chunks at a time."""
    window = allocate(chunks.row_types, n, pool)
    views = [chunks.view(spec.epoch, number) for number in spec.chunks]

    def fill(view: int, number: int, here: Tensor) -> None:
        if cancelled():
            raise CancelledError
        chunks.fill(view, number, window, here)

    # Chunks write to disjoint rows, so their threads need no lock; they begin now.
    fills = chunks.pool.map(fill, views, spec.chunks, positions)
    # At once for all chunks: hundreds of small operations would take longer than reading.
    chunks.fill_labels(views, spec.chunks, window, torch.cat(tuple(positions)))
    list(fills)  # waits, and raises what any of them raised
    return window
