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
from diffprobe.runtime.system import shares_descriptors
from diffprobe.training.world import World


class Resident:
    """All views of all rows, read in the very order of `data.window_stream.WindowStream` with this seed and window.

    Rows lie chunk by chunk, and within a chunk view by view. `host_rows` is the host memory for them, which all
    processes fill and read together; None: each has them on its device.
    """

    def __init__(
        self,
        chunks: LatentChunks,
        seed: int,
        window: int,
        device: torch.device,
        host_rows: Rows | None = None,
        world: World | None = None,
    ) -> None:
        self.chunks, self.seed, self.device = chunks, seed, device
        # Two epochs each, since a batch may lie on both sides of an epoch's border.
        self.plan = lru_cache(2)(lambda epoch: plan_epoch(chunks.sizes, seed, window, epoch))
        self.order = lru_cache(2)(self.epoch_order)
        self.begins = torch.tensor([0, *accumulate(rows_of_all_views(chunks))])  # of each chunk's first view
        if host_rows is None:
            self.rows = on_device(chunks, self.begins, device)
        else:
            self.rows = host_rows
            fill_share(chunks, self.begins, host_rows, world or World())

    def read(self, start: int, stop: int) -> Rows:
        """The rows at positions [start, stop), at least one, on the device: tensors (stop - start, ...)."""
        spans = epoch_spans(start, stop, sum(self.chunks.sizes))
        places = torch.cat([self.order(epoch)[begin:end] for epoch, begin, end in spans])  # (B,)
        rows = tuple(tensor.index_select(0, places) for tensor in self.rows)
        if self.device.type == "cuda" and not rows[0].is_cuda:
            # Only copies from page-locked memory are asynchronous.
            return tuple(tensor.pin_memory().to(self.device, non_blocking=True) for tensor in rows)
        return rows

    def epoch_order(self, epoch: int) -> Tensor:
        """Where the rows of an epoch lie, in reading order, int64 (N,), beside the rows."""
        windows = []
        for index, numbers in enumerate(self.plan(epoch).chunks):
            places = torch.cat([self.places(epoch, number) for number in numbers])  # (n,)
            # A window stream scatters row i to position order[i]; here the places are permuted in the rows' stead.
            order = window_order(self.seed, epoch, index, len(places))
            windows.append(torch.empty_like(places).index_copy_(0, order, places))
        return torch.cat(windows).to(self.rows[0].device)

    def places(self, epoch: int, number: int) -> Tensor:
        """Where the rows of a chunk lie, in the view that an epoch sees, int64 (n,)."""
        size = self.chunks.sizes[number]
        return self.begins[number] + self.chunks.view(epoch, number) * size + torch.arange(size)


def rows_of_all_views(chunks: LatentChunks) -> list[int]:
    """The rows of each chunk, counted in all its views."""
    return [size * chunks.views(number) for number, size in enumerate(chunks.sizes)]


def on_device(chunks: LatentChunks, begins: Tensor, device: torch.device) -> Rows:
    """All rows on the device, copied there chunk by chunk, so that the host never holds them all."""
    n = int(begins[-1])
    rows = tuple(torch.empty(n, *shape, dtype=dtype, device=device) for shape, dtype in chunks.row_types)
    pool = BufferPool(pinned=device.type == "cuda")
    for number, (first, last) in enumerate(pairwise(begins.tolist())):
        chunk = allocate(chunks.row_types, last - first, pool)
        fill_views(chunks, number, chunk, 0)
        for tensor, part in zip(rows, chunk, strict=True):
            tensor[first:last].copy_(part)
    return rows


def fill_share(chunks: LatentChunks, begins: Tensor, rows: Rows, world: World) -> None:
    """Fill every `world.size`-th chunk, then wait until the other processes have filled theirs."""
    for number in range(world.rank, len(chunks.sizes), world.size):
        fill_views(chunks, number, rows, int(begins[number]))
    world.wait()


def fill_views(chunks: LatentChunks, number: int, rows: Rows, first: int) -> None:
    """Write a chunk in all its views, one after another, from row `first` on."""
    views, size = range(chunks.views(number)), chunks.sizes[number]
    places = first + torch.arange(len(views) * size)
    for view, view_places in zip(views, places.split(size), strict=True):
        chunks.fill(view, number, rows, view_places)
    chunks.fill_labels(views, [number] * len(views), rows, places)


def shared_rows(chunks: LatentChunks, world: World) -> Rows | None:
    """Uninitialised host memory for all rows, one for all processes; None where so much cannot be shared, or not with
    processes of another machine.
    """
    if world.nodes > 1:
        return None
    n = sum(rows_of_all_views(chunks))
    if world.size == 1:
        return allocate(chunks.row_types, n, BufferPool())
    # Tensors with wide elements come first, so that each one's offset is a multiple of its element size.
    types = sorted(enumerate(chunks.row_types), key=lambda numbered: -numbered[1][1].itemsize)
    sizes = [n * math.prod(shape) * dtype.itemsize for _, (shape, dtype) in types]
    file = reserve(sum(sizes)) if world.writes else None
    # The others open the first process's file through /proc: it has no name that could outlive the processes.
    name = world.broadcast(None if file is None else f"/proc/{os.getpid()}/fd/{file}")
    if name is None:
        return None
    memory = torch.from_file(name, shared=True, size=sum(sizes), dtype=torch.uint8)
    world.wait()
    if file is not None:
        os.close(file)  # all have mapped it: the memory lives as long as one of them does
    parts = zip(types, memory.split(sizes), strict=True)
    placed = {i: part.view(dtype).view(n, *shape) for (i, (shape, dtype)), part in parts}
    return tuple(placed[i] for i in range(len(types)))


def reserve(size: int) -> int | None:
    """The descriptor of a nameless file of so many bytes in memory; None where the memory is not available."""
    if not shares_descriptors():
        return None
    try:
        file = nameless_file()
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, size)  # now, or a full /dev/shm would kill a process at its first write
    except OSError:
        os.close(file)
        return None
    return file


def nameless_file() -> int:
    """An empty file in memory. memfd_create is not limited by the size of /dev/shm, but Pythons built for old systems
    (conda's) lack it.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("diffprobe latents")
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)
