"""Latents as the peers hold them on disk: one array in numpy's format, mapped, gathered in full shuffle."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffprobe.latents.store import LatentStore

CHUNK = 256  # rows copied at a time


def write_array(path: Path, latents: LatentStore) -> None:
    """The moments of a store's first view of train."""
    rows = latents.counts["train"]
    with path.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (rows, *latents.moments("train", 0, 0, 1).shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, rows, CHUNK):
            file.write(latents.moments("train", 0, first, min(first + CHUNK, rows)).tobytes())


class MappedArray:
    """Batches in the order of a permutation, new for each epoch; labels come along."""

    def __init__(self, path: Path) -> None:
        self.array = np.load(path, mmap_mode="r")
        self.labels = np.arange(len(self.array))

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(epoch).permutation(len(self.array))

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.array[rows]), torch.from_numpy(self.labels[rows])
