"""Rows of a dataset as tuples of tensors, and how they are copied to where they belong."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffprobe.data.buffers import BufferPool

Rows = tuple[Tensor, ...]  # tensors (n, ...); the i-th entries of all of them belong to one image
RowTypes = Sequence[tuple[Sequence[int], torch.dtype]]  # shape and dtype of one row of each tensor


def allocate(types: RowTypes, n: int, pool: BufferPool) -> Rows:
    """Uninitialised tensors for n rows."""
    return tuple(pool.empty((n, *shape), dtype) for shape, dtype in types)


def scatter(target: np.ndarray, positions: np.ndarray, source: np.ndarray) -> None:
    """target[positions[i]] = source[i], for positions int64 (n,); rows with position -1 are skipped.

    In numpy: torch would wake its thread pool, whose threads spin for longer than the copy takes.
    """
    if (positions < 0).any():
        positions, source = positions[positions >= 0], source[positions >= 0]
    target[positions] = source


def copy_rows(source: Tensor, target: Tensor) -> None:
    """Copy rows from the host to a tensor on the host, or on a GPU without waiting for it."""
    if target.is_cuda:
        target.copy_(source, non_blocking=True)
    else:
        target.numpy()[:] = source.numpy()  # in numpy for the reason given at `scatter`
