"""Rows: tensors whose entries belong together, and how they come to their places."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffprobe.data.buffers import Spare

Rows = tuple[Tensor, ...]  # tensors (n, ...), the i-th entries of which belong together
Kinds = Sequence[tuple[Sequence[int], torch.dtype]]  # the shape and dtype of a row of each


def room(kinds: Kinds, n: int, memory: Spare) -> Rows:
    """Tensors for n such rows, not yet filled."""
    return tuple(memory.empty((n, *shape), dtype) for shape, dtype in kinds)


def put(rows: np.ndarray, places: np.ndarray, part: np.ndarray) -> None:
    """Each row of a part to its place, int64 (n,); a row whose place is -1 to none.

    By numpy, which wakes no other threads: those that torch wakes for it spin for longer than the copy takes.
    """
    if (places < 0).any():
        places, part = places[places >= 0], part[places >= 0]
    rows[places] = part


def transfer(rows: Tensor, place: Tensor) -> None:
    """Rows from the host to a place there, or on a GPU, which is not waited for."""
    if place.is_cuda:
        place.copy_(rows, non_blocking=True)
    else:
        place.numpy()[:] = rows.numpy()  # not by torch: see `put`
