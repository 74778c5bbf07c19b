"""Memory that is used again once nobody holds it: for large blocks, fresh pages cost as much as filling them."""

import mmap
import weakref

import numpy as np
import torch
from torch import Tensor


class Spare:
    """Blocks of bytes, in large pages where the system has them. A block is free again when no tensor of it is left."""

    def __init__(self) -> None:
        self.free: dict[int, np.ndarray] = {}  # by identity

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
    memory = mmap.mmap(-1, max(size, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
