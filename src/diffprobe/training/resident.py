"""A whole store of latents in memory: on the device, or on the host once for all processes of a job."""

import math
import os
from functools import lru_cache
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from diffprobe.data.batch import epoch_spans
from diffprobe.data.buffers import BufferPool
from diffprobe.data.rows import Rows, allocate
from diffprobe.data.window import window_order
from diffprobe.data.window_stream import plan_epoch
from diffprobe.latents.chunks import LatentChunks
from diffprobe.training.world import World


class Resident:
    """All views of all rows, read in the very order of `data.window_stream.WindowStream` with this seed and window.

    `room` is where on the host they are kept, each process filling its part of it; None: on the device.
    """

    def __init__(
        self,
        chunks: LatentChunks,
        seed: int,
        window: int,
        device: torch.device,
        room: Rows | None = None,
        world: World | None = None,
    ) -> None:
        self.chunks, self.seed, self.device = chunks, seed, device
        self.plan = lru_cache(2)(lambda epoch: plan_epoch(chunks.sizes, seed, window, epoch))
        self.order = lru_cache(2)(self.ordered)
        self.begins = torch.tensor([0, *accumulate(copies(chunks))])  # rows before each chunk's first view
        self.rows = on_device(chunks, self.begins, device) if room is None else room
        if room is not None:
            fill(chunks, self.begins, room, world or World())

    def read(self, start: int, stop: int) -> Rows:
        """The rows at positions `start` to before `stop`, at least one, on the device: each (stop - start, ...)."""
        parts = [self.order(epoch)[begin:end] for epoch, begin, end in epoch_spans(start, stop, sum(self.chunks.sizes))]
        rows = torch.cat(parts)
        found = tuple(whole.index_select(0, rows) for whole in self.rows)
        if self.device.type == "cuda" and not found[0].is_cuda:
            return tuple(part.pin_memory().to(self.device, non_blocking=True) for part in found)
        return found

    def ordered(self, epoch: int) -> Tensor:
        """Where the rows of an epoch lie, in the order in which they are read, int64 (N,)."""
        found = []
        for index, numbers in enumerate(self.plan(epoch).chunks):
            rows = torch.cat([self.where(epoch, number) for number in numbers])
            found.append(torch.empty_like(rows).index_copy_(0, window_order(self.seed, epoch, index, len(rows)), rows))
        return torch.cat(found).to(self.rows[0].device)

    def where(self, epoch: int, number: int) -> Tensor:
        """Where an epoch's view of a chunk lies."""
        size = self.chunks.sizes[number]
        return self.begins[number] + self.chunks.view(epoch, number) * size + torch.arange(size)


def copies(chunks: LatentChunks) -> list[int]:
    """Rows of each chunk in all its views."""
    return [size * chunks.views(number) for number, size in enumerate(chunks.sizes)]


def on_device(chunks: LatentChunks, begins: Tensor, device: torch.device) -> Rows:
    """All rows on the device, copied there chunk by chunk."""
    n = int(begins[-1])
    whole = tuple(torch.empty(n, *shape, dtype=dtype, device=device) for shape, dtype in chunks.row_types)
    memory = BufferPool(pinned=device.type == "cuda")
    for number, (first, last) in enumerate(pairwise(begins.tolist())):
        part = allocate(chunks.row_types, last - first, memory)
        every_view(chunks, number, part, 0)
        for all_rows, rows in zip(whole, part, strict=True):
            all_rows[first:last].copy_(rows)
    return whole


def fill(chunks: LatentChunks, begins: Tensor, room: Rows, world: World) -> None:
    """Every `world.size`-th chunk into its places; then wait for the other processes' parts."""
    for number in range(world.rank, len(chunks.sizes), world.size):
        every_view(chunks, number, room, int(begins[number]))
    world.wait()


def every_view(chunks: LatentChunks, number: int, room: Rows, first: int) -> None:
    """A chunk in all its views, one after another from row `first` on."""
    chosen, size = range(chunks.views(number)), chunks.sizes[number]
    places = first + torch.arange(len(chosen) * size)
    for view, here in zip(chosen, places.split(size), strict=True):
        chunks.fill(view, number, room, here)
    chunks.fill_labels(chosen, [number] * len(chosen), room, places)


def shared(chunks: LatentChunks, world: World) -> Rows | None:
    """Host memory for all rows, one for all processes of the world; None where there is not so much to be shared."""
    n = sum(copies(chunks))
    if world.size == 1:
        return allocate(chunks.row_types, n, BufferPool())
    kinds = sorted(enumerate(chunks.row_types), key=lambda kind: -kind[1][1].itemsize)  # wide ones first, for alignment
    sizes = [n * math.prod(shape) * dtype.itemsize for _, (shape, dtype) in kinds]
    file = reserved(sum(sizes)) if world.writes else None
    name = world.tell(None if file is None else f"/proc/{os.getpid()}/fd/{file}")
    if name is None:
        return None
    whole = torch.from_file(name, shared=True, size=sum(sizes), dtype=torch.uint8)
    world.wait()
    if file is not None:
        os.close(file)  # the memory lives on for those who have it, and no longer
    parts = zip(kinds, whole.split(sizes), strict=True)
    placed = {i: part.view(dtype).view(n, *shape) for (i, (shape, dtype)), part in parts}
    return tuple(placed[i] for i in range(len(kinds)))


def reserved(size: int) -> int | None:
    """A file of so many bytes in memory, without a name that could outlive the processes; None where there is none."""
    try:
        file = nameless()
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, size)
    except OSError:
        os.close(file)
        return None
    return file


def nameless() -> int:
    """An empty file in memory. Pythons made for old systems (conda's) lack memfd_create, which has no mount's limit."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("diffprobe latents")
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)
