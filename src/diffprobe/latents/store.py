"""The latent store: finished by one job (latents/completion.py), opened by any.

latents.zarr, zarr v3:
  zarr.json          attributes: format, identity (with seed, views, scale rule), holds, counts, shape, shard_chunks,
                     scale and shift per channel, content (a hash of every byte of the data), checksum (of these)
  {split}/moments    float16 (views, N, 2C, h, w): mean, then log-variance of the posterior; where the store holds
                     latents without one, (views, N, C, h, w)
  {split}/labels     int64 (N,)
  {split}/rows       int64 (N,): the images' indices in the image store
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from diffprobe.data.views import StoredView
from diffprobe.latents.manifest import FORMAT, LatentManifest
from diffprobe.latents.shards import CHUNK, REMEDY, ShardReader
from diffprobe.networks.autoencoder import posterior
from diffprobe.runtime.arrays import open_array, read_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import canonical
from diffprobe.runtime.manifests import ROOT, read_manifest


@dataclass(frozen=True)
class LatentStore:
    """A finished store. z in model scale is (z - shift) * scale, per channel."""

    path: Path
    identity: dict[str, Any]  # what it was made from: StorePlan.identity, seed, views, scale
    counts: dict[str, int]
    views: dict[str, list[StoredView]]
    shape: tuple[int, int, int]  # (C, h, w) of a latent
    scale: np.ndarray  # float32 (C,)
    shift: np.ndarray  # float32 (C,)
    content: str  # a hash of all its data
    holds: str  # moments, or latents
    shard_chunks: int
    arrays: dict[str, dict[str, zarr.Array]]  # by split and name

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """The shape of a stored row."""
        return stored_shape(self.shape, self.holds)

    @property
    def row_bytes(self) -> int:
        return 2 * math.prod(self.stored_shape)

    @property
    def bytes(self) -> int:
        """Of the moments of all views of all splits."""
        return self.row_bytes * sum(n * len(self.views[split]) for split, n in self.counts.items())

    @cached_property
    def readers(self) -> dict[str, ShardReader]:
        """The reader of each split's moments."""
        return {
            split: ShardReader(self.path / split / "moments", n, self.row_bytes, self.shard_chunks)
            for split, n in self.counts.items()
        }

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

        Reads whole chunks of 256, so a start and stop at multiples of 256 waste nothing.
        """
        first, last = start // CHUNK, -(-stop // CHUNK)
        chunks = [self.readers[split].chunk(view, chunk) for chunk in range(first, last)]
        raw = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        rows = raw[start - first * CHUNK : stop - first * CHUNK]
        return rows.view(np.float16).reshape(-1, *self.stored_shape)

    def draw(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Latents in model scale, float32 (B, C, h, w), from what is stored of them: see `raw`."""
        return self.to_model(self.raw(moments, noise))

    def raw(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Latents of the autoencoder, float32 (B, C, h, w), from what is stored of them: samples of the posterior by
        noise (B, C, h, w), or its mean. A store of latents has no posterior to draw from.
        """
        moments = moments.float()  # float16 is too coarse to add noise in
        return posterior(moments, noise) if self.holds == "moments" else moments

    def to_model(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) of the autoencoder in model scale."""
        # (C, 1, 1) each, against (B, C, h, w)
        scale, shift = (torch.from_numpy(x).to(z.device)[:, None, None] for x in (self.scale, self.shift))
        return (z - shift) * scale


def stored_shape(shape: tuple[int, int, int], holds: str) -> tuple[int, int, int]:
    """The shape of what is stored of a latent (C, h, w): (2C, h, w), or the same where that is the latent itself."""
    channels, h, w = shape
    return (2 * channels if holds == "moments" else channels), h, w


def read_attributes(path: Path) -> LatentManifest:
    """The manifest; UserError where there is no finished latent store."""
    attributes = read_manifest(path, FORMAT, "latent store")
    try:
        return LatentManifest.parse(attributes)
    except ValueError as error:
        raise UserError(
            f"{path / ROOT}: is not the manifest of a latent store ({error}); look at it yourself"
        ) from None


def open_store(path: Path, expected: Mapping[str, Any] | None = None) -> LatentStore:
    """A finished store, of the `expected` identity (any of its keys) if one is given.

    Raises UserError for an unfinished or foreign store, and for the first key that differs.
    """
    manifest = read_attributes(path)
    if difference := first_difference(manifest.identity, expected or {}):
        key, actual, wanted = difference
        raise UserError(f"{path}: {key} is {actual}, but {wanted} is wanted; delete it and run again")
    return LatentStore(
        path=path,
        identity=manifest.identity,
        counts=manifest.counts,
        views=manifest.views,
        shape=manifest.shape,
        scale=np.array(manifest.scale, np.float32),
        shift=np.array(manifest.shift, np.float32),
        content=manifest.content,
        holds=manifest.holds,
        shard_chunks=manifest.shard_chunks,
        arrays={split: open_arrays(path, split, manifest) for split in manifest.counts},
    )


def open_arrays(path: Path, split: str, manifest: LatentManifest) -> dict[str, zarr.Array]:
    """The arrays of a split by name. Raises UserError where one is not that of the manifest."""
    n, row = manifest.counts[split], stored_shape(manifest.shape, manifest.holds)
    layouts = {
        "moments": ((len(manifest.views[split]), n, *row), np.dtype(np.float16)),
        "labels": ((n,), np.dtype(np.int64)), "rows": ((n,), np.dtype(np.int64)),
    }  # fmt: skip
    arrays = {}
    for name, layout in layouts.items():
        array = open_array(path / split / name, REMEDY)
        if (array.shape, array.dtype) != layout:
            raise UserError(
                f"{path / split / name}: is {array.dtype} {array.shape}, expected {layout[1]} {layout[0]}; {REMEDY}"
            )
        arrays[name] = array
    return arrays


def first_difference(actual: object, expected: object, key: str = "") -> tuple[str, str, str] | None:
    """The first key of `expected`, dotted, that has another value in `actual`; both values as JSON."""
    # Compared as JSON: an identity that was written and read has lists for tuples, and its floats' shortest decimals.
    if isinstance(actual, dict) and isinstance(expected, Mapping):
        pairs = ((f"{key}.{name}".lstrip("."), actual.get(name), value) for name, value in expected.items())
        return next((difference for name, a, b in pairs if (difference := first_difference(a, b, name))), None)
    return (key, canonical(actual), canonical(expected)) if canonical(actual) != canonical(expected) else None
