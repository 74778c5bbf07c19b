"""The latent store: finished by one job (latents/finish.py), opened by any.

latents.zarr, zarr v3:
  zarr.json          attributes: format, identity (with seed, views, scale rule), holds, counts, shape, shard_chunks,
                     scale and shift per channel, content (a hash of every byte of the data), checksum (of these)
  {split}/moments    float16 (views, N, 2C, h, w): mean, then log-variance of the posterior; where the store holds
                     latents without one, (views, N, C, h, w)
  {split}/labels     int64 (N,)
  {split}/rows       int64 (N,): the images' indices in the image store
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from diffprobe.data.views import StoredView
from diffprobe.latents.shards import CHUNK, REMEDY, Shards
from diffprobe.networks.autoencoder import posterior
from diffprobe.runtime.arrays import open_array, read_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import canonical
from diffprobe.runtime.manifests import read_manifest

FORMAT = "diffprobe latents 2"
ARRAYS = ("moments", "labels", "rows")


@dataclass(frozen=True)
class Latents:
    """A finished store. z in model scale is (z - shift) * scale, per channel."""

    path: Path
    identity: dict[str, Any]
    counts: dict[str, int]
    views: dict[str, list[StoredView]]
    shape: tuple[int, int, int]  # (C, h, w) of a latent
    scale: np.ndarray  # float32 (C,)
    shift: np.ndarray  # float32 (C,)
    content: str  # a hash of all that it holds
    holds: str  # moments, or latents
    arrays: dict[str, dict[str, zarr.Array]]  # by split and name

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Of what is stored of a row."""
        return stored_shape(self.shape, self.holds)

    @property
    def row_bytes(self) -> int:
        return 2 * math.prod(self.stored_shape)

    @property
    def bytes(self) -> int:
        """Of all views of all splits."""
        return self.row_bytes * sum(n * len(self.views[split]) for split, n in self.counts.items())

    @cached_property
    def shards(self) -> dict[str, Shards]:
        """What the moments of each split are read from."""
        found = {}
        for split, arrays in self.arrays.items():
            chunks = arrays["moments"].shards[1] // CHUNK
            found[split] = Shards(self.path / split / "moments", self.counts[split], self.row_bytes, chunks)
        return found

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.counts)

    def labels(self, split: str) -> np.ndarray:
        """int64 (N,)"""
        return read_array(self.arrays[split]["labels"], REMEDY)

    def rows(self, split: str) -> np.ndarray:
        """int64 (N,): the images' indices in the image store."""
        return read_array(self.arrays[split]["rows"], REMEDY)

    def moments(self, split: str, view: int, start: int, stop: int) -> np.ndarray:
        """float16 (stop - start, 2C, h, w): mean, then log-variance; (.., C, h, w) where the store holds latents.

        Whole chunks of 256 are read: ask for such.
        """
        first, last = start // CHUNK, -(-stop // CHUNK)
        chunks = [self.shards[split].chunk(view, chunk) for chunk in range(first, last)]
        found = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        part = found[start - first * CHUNK : stop - first * CHUNK]
        return part.view(np.float16).reshape(-1, *self.stored_shape)

    def drawn(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Latents in model scale, float32 (B, C, h, w), from what is stored of them: see `raw`."""
        return self.to_model(self.raw(moments, noise))

    def raw(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Latents of the autoencoder, float32 (B, C, h, w), from what is stored of them: samples of the posterior by
        noise (B, C, h, w), or its mean. A store of latents has no posterior to be drawn from.
        """
        moments = moments.float()
        return posterior(moments, noise) if self.holds == "moments" else moments

    def to_model(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) of the autoencoder in model scale."""
        scale, shift = (torch.from_numpy(x).to(z.device)[:, None, None] for x in (self.scale, self.shift))
        return (z - shift) * scale


def stored_shape(shape: tuple[int, int, int], holds: str) -> tuple[int, int, int]:
    """(2C, h, w) of what is stored of a latent (C, h, w), (C, h, w) where that is the latent itself."""
    channels, h, w = shape
    return (2 * channels if holds == "moments" else channels), h, w


def attributes(path: Path) -> dict[str, Any]:
    """The root's attributes; UserError where there is no finished latent store."""
    return read_manifest(path, FORMAT, "latent store")


def open_store(path: Path, expected: dict[str, Any] | None = None) -> Latents:
    """A finished store, of the `expected` identity (any of its keys) if one is given.

    Raises UserError for an unfinished or foreign store, and for the first key that differs.
    """
    found = attributes(path)
    if difference := first_difference(found["identity"], expected or {}):
        key, has, wanted = difference
        raise UserError(f"{path}: {key} is {has}, but {wanted} is wanted; delete it and run again")
    arrays = {split: {name: open_array(path / split / name, REMEDY) for name in ARRAYS} for split in found["counts"]}
    return Latents(
        path=path,
        identity=found["identity"],
        counts=found["counts"],
        views=found["identity"]["views"],
        shape=tuple(found["shape"]),
        scale=np.array(found["scale"], np.float32),
        shift=np.array(found["shift"], np.float32),
        content=found["content"],
        holds=found["holds"],
        arrays=arrays,
    )


def first_difference(has: Any, wanted: Any, key: str = "") -> tuple[str, str, str] | None:
    """The first key of `wanted`, dotted, whose value in `has` is another one, and both as JSON."""
    if isinstance(has, dict) and isinstance(wanted, dict):
        pairs = ((f"{key}.{name}".lstrip("."), has.get(name), value) for name, value in wanted.items())
        return next((found for name, a, b in pairs if (found := first_difference(a, b, name))), None)
    return (key, canonical(has), canonical(wanted)) if canonical(has) != canonical(wanted) else None
