"""A pool of large memory blocks: the kernel takes as long to map and clear fresh pages as it takes to fill them."""

import math
import mmap
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGE = 2**20  # bytes; smaller tensors come from torch's own allocator


class BufferPool:
    """Blocks of host memory, reused once no tensor refers to them.

    Pinned memory, from which a GPU copies without the CPU, comes from torch, whose allocator caches it in the same way.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self.free: dict[int, np.ndarray] = {}  # by id

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor; a large one lies in a block of the pool. Thread-safe."""
        size = math.prod(shape) * dtype.itemsize
        if self.pinned or size < LARGE:
            return torch.empty(*shape, dtype=dtype, pin_memory=self.pinned)
        return self.acquire(size).view(dtype).view(*shape)

    def acquire(self, size: int) -> Tensor:
        """uint8 (size,), uninitialised. Thread-safe."""
        large_enough = [key for key, block in list(self.free.items()) if len(block) >= size]
        block = self.free.pop(large_enough[0], None) if large_enough else None
        if block is None:  # none fits, or another thread took it in between
            self.free.clear()  # sizes only grow in practice, so blocks that are too small stay useless
            block = map_pages(size)
        # torch.from_numpy keeps this very array alive for as long as any view of the tensor lives; its end returns
        # the block to the pool.
        lent = block[:size]
        weakref.finalize(lent, self.free.__setitem__, id(block), block)
        return torch.from_numpy(lent)


def map_pages(size: int) -> np.ndarray:
    """Zeroed memory, uint8 (at least size,), in huge pages where the system has them."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
