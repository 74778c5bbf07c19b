"""Samples of a store's posteriors as arrays in .npy, in the order of the dataset's own files."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import images
from diffprobe.interop.latents.fitting import source_positions
from diffprobe.latents.parts import CHUNK
from diffprobe.latents.store import LatentStore
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal
from diffprobe.runtime.system import reserve_space

FILES = {"train": ("train", "select"), "test": ("test",)}  # the splits in each of their files


@dataclass(frozen=True)
class PosteriorSamples:
    """Samples in model scale, or times `scaled` in the autoencoder's own scale."""

    latents: LatentStore
    seed: int
    scaled: float | None

    def draw(self, moments: np.ndarray, rows: np.ndarray, version: int) -> Tensor:
        """float32 (B, C, h, w) from what is stored (B, 2C, h, w) of these images (B,)."""
        noise = normal(Key(self.seed, "export"), torch.from_numpy(rows), self.latents.shape, version)
        z = self.latents.raw(torch.from_numpy(moments), noise)  # (B, C, h, w)
        return self.latents.to_model(z) if self.scaled is None else z * self.scaled


def npy_bytes(latents: LatentStore) -> int:
    """About the bytes of all the files."""
    rows = {name: sum(latents.counts.get(split, 0) for split in splits) for name, splits in FILES.items()}
    return 4 * math.prod(latents.shape) * (rows["train"] * len(latents.views["train"]) + rows["test"])


def write_npy(samples: PosteriorSamples, image_store: Path, folder: Path) -> None:
    """The files of the splits that the store has. Raises UserError where it was made from other images, OSError for a
    full disk.
    """
    latents = samples.latents
    if images.describe(image_store)["content"] != latents.identity["dataset"]:
        raise UserError(f"{latents.path}: holds latents of other images than {image_store}; run the workflow again")
    source = source_positions(image_store)
    for name, splits in FILES.items():
        if stored := [split for split in splits if split in latents.splits]:
            write_file(samples, folder, name, stored, source)


def write_file(samples: PosteriorSamples, folder: Path, name: str, splits: list[str], source: np.ndarray) -> None:
    """All versions of one of their splits, and its labels; `source` (N,) is each image's position in the files."""
    latents = samples.latents
    rows = {split: latents.rows(split) for split in splits}
    ordered = np.sort(source[np.concatenate(list(rows.values()))])
    positions = {split: np.searchsorted(ordered, source[own]) for split, own in rows.items()}  # rank among these images
    labels = np.empty(len(ordered), np.int64)
    for split, at in positions.items():
        labels[at] = latents.labels(split)
    np.save(folder / f"{name}_label.npy", labels)
    for version in range(len(latents.views[splits[0]])):
        path = folder / f"{name}_code_{version}.npy"
        allocate(path, (len(ordered), *latents.shape))
        for split, at in positions.items():
            # Select has the identity alone, so each of its versions is another sample of it.
            view = version if version < len(latents.views[split]) else 0
            for start in range(0, len(at), CHUNK):
                part = slice(start, min(start + CHUNK, len(at)))
                moments = latents.moments(split, view, part.start, part.stop)
                file = np.load(path, mmap_mode="r+")  # mapped anew, so that the pages written are given back
                file[at[part]] = samples.draw(moments, rows[split][part], version).numpy()
        with path.open("rb") as written:
            os.fsync(written.fileno())


def allocate(path: Path, shape: tuple[int, ...]) -> None:
    """Make a file of float32 with its space reserved on the disk: writing to a map of a full disk would be a SIGBUS.
    Raises OSError.
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.flush()
        reserve_space(file.fileno(), file.tell(), 4 * math.prod(shape))
