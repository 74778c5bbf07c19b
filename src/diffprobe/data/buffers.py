"""Memory that is used again once nobody holds it: for large blocks, fresh pages cost as much as filling them."""

import math
import mmap
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGE = 2**20  # bytes


class Spare:
    """Blocks of bytes, in large pages where the system has them. A block is free again when no tensor of it is left.

    `pinned` memory, which a GPU copies from by itself, comes from torch, which does the same with it.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self.free: dict[int, np.ndarray] = {}  # by identity

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor, not cleared; where it is large, in such a block. Safe in any thread."""
        size = math.prod(shape) * dtype.itemsize
        if self.pinned or size < LARGE:
            return torch.empty(*shape, dtype=dtype, pin_memory=self.pinned)
        return self.take(size).view(dtype).view(*shape)

    def take(self, size: int) -> Tensor:
        """uint8 (size,), not cleared. Safe in any thread."""
        fitting = next((key for key, block in list(self.free.items()) if len(block) >= size), None)
        block = self.free.pop(fitting, None)
        if block is None:  # or another thread was faster
            self.free.clear()  # what is too small now will stay so
            block = fresh(size)
        lent = block[:size]  # the tensor keeps this very array, which dies with the last that is made of it
        weakref.finalize(lent, self.free.__setitem__, id(block), block)
        return torch.from_numpy(lent)


def fresh(size: int) -> np.ndarray:
    """Cleared memory, uint8 (at least size,)."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
