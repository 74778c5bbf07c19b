"""The latent store: finished by one job, opened by any.

latents.zarr, zarr v3:
  zarr.json          attributes: format, identity (with seed, views, scale rule), holds, counts, shape, shard_chunks,
                     scale and shift per channel, content (a hash of every byte of the data), checksum (of these)
  {split}/moments    float16 (views, N, 2C, h, w): mean, then log-variance of the posterior; where the store holds
                     latents without one, (views, N, C, h, w)
  {split}/labels     int64 (N,)
  {split}/rows       int64 (N,): the images' indices in the image store
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.data.views import View
from diffprobe.latents.parts import CHUNK, Store, made, missing, moments_array, receipts, writing
from diffprobe.latents.shards import REMEDY, Shards
from diffprobe.networks.autoencoder import posterior
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import canonical, remove, write_bytes
from diffprobe.runtime.marks import read_mark, write_mark

FORMAT = "diffprobe latents 2"
ARRAYS = ("moments", "labels", "rows")
LOST = np.iinfo(np.int64).min  # what a lost chunk of labels or rows reads as
Numbers = dict[str, float | list[float]]  # {"scale": ..., "shift": ...}, one for all channels or one for each


@dataclass(frozen=True)
class Latents:
    """A finished store. z in model scale is (z - shift) * scale, per channel."""

    path: Path
    identity: dict[str, Any]
    counts: dict[str, int]
    views: dict[str, list[View]]
    shape: tuple[int, int, int]  # (C, h, w) of a latent
    scale: np.ndarray  # float32 (C,)
    shift: np.ndarray  # float32 (C,)
    content: str  # a hash of all that it holds
    holds: str  # moments, or latents
    arrays: dict[str, dict[str, zarr.Array]]  # by split and name

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(2C, h, w) of what is stored of a row, (C, h, w) where these are latents."""
        channels, h, w = self.shape
        return (2 * channels if self.holds == "moments" else channels), h, w

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
        return read_whole(self.arrays[split]["labels"], slice(None))

    def rows(self, split: str) -> np.ndarray:
        """int64 (N,): the images' indices in the image store."""
        return read_whole(self.arrays[split]["rows"], slice(None))

    def moments(self, split: str, view: int, start: int, stop: int) -> np.ndarray:
        """float16 (stop - start, 2C, h, w): mean, then log-variance; (.., C, h, w) where the store holds latents.

        Whole chunks of 256 are read: ask for such.
        """
        first, last = start // CHUNK, -(-stop // CHUNK)
        found = np.empty(((last - first) * CHUNK, *self.stored_shape), np.float16)
        as_bytes = found.view(np.uint8).reshape(last - first, CHUNK, -1)
        for chunk in range(first, last):
            self.shards[split].read(view, chunk, list(as_bytes[chunk - first]))
        return found[start - first * CHUNK : stop - first * CHUNK]

    def drawn(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Latents in model scale, float32 (B, C, h, w), from what is stored of them: samples of the posterior by noise
        (B, C, h, w), or its mean. A store of latents has no posterior to be drawn from.
        """
        moments = moments.float()
        return self.to_model(posterior(moments, noise) if self.holds == "moments" else moments)

    def to_model(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) of the autoencoder in model scale."""
        scale, shift = (torch.from_numpy(x).to(z.device)[:, None, None] for x in (self.scale, self.shift))
        return (z - shift) * scale


def read_whole(array: zarr.Array, selection: Any) -> np.ndarray:
    """A selection of an array; UserError where a checksum is wrong or a chunk is gone."""
    try:
        values = np.asarray(array[selection])
        first = values[(slice(None), *(0,) * (values.ndim - 1))]  # (n,): a lost chunk is lost with every row
        if (np.isnan(first) if values.dtype == np.float16 else first == LOST).any():
            raise ValueError("chunks are missing")
    except (ValueError, OSError) as error:
        path = str(array.store_path).removeprefix("file://")
        raise UserError(f"{path}: cannot be read whole ({error}); {REMEDY}") from None
    return values


def finish(
    store: Store, labels: dict[str, np.ndarray], rows: dict[str, np.ndarray], rule: Any, numbers: Numbers | None
) -> None:
    """Complete a store whose parts are all made: labels and rows int64 (N,) by split, and last the root's mark.

    `rule` is what the config says of the scale, `numbers` what follows from it, None for `measured`. Raises UserError
    where a part is missing.
    """
    if left := missing(store):
        raise UserError(f"{store.path}: {len(left)} parts are missing, the first is {left[0].name}; run again")
    written = [made(store, part) for part in store.parts]
    shape = tuple(written[0]["shape"])  # (2C, h, w), or (C, h, w)
    channels = shape[0] // 2 if store.holds == "moments" else shape[0]
    with writing(store.path):
        prune(store)
        for split in store.counts:
            write_split(store, split, shape, labels[split], rows[split])
        scaling = measure(store, channels) if numbers is None else fixed(numbers, channels)
        found = {
            "identity": {**store.identity, "seed": store.seed, "views": store.views, "scale": rule},
            "holds": store.holds,
            "counts": store.counts,
            "shape": (channels, *shape[1:]),
            "shard_chunks": store.shard_chunks,
            **scaling,
            "content": content([receipt["sha256"] for receipt in written], labels, rows),
        }
        write_mark(store.path, FORMAT, found)


def content(parts: list[str], labels: dict[str, np.ndarray], rows: dict[str, np.ndarray]) -> str:
    """A hash that changes with any byte of the data; `parts` holds the shards' hashes, in order."""
    hashed = hashlib.sha256("".join(parts).encode())
    for split, values in labels.items():
        hashed.update(values.tobytes() + rows[split].tobytes())
    return hashed.hexdigest()


def prune(store: Store) -> None:
    """Remove shards and receipts of an earlier plan: of more views, or of shorter shards."""
    planned = {part.name for part in store.parts}
    for receipt in receipts(store.path).glob("[a-z]*.[0-9]*.[0-9]*.json"):
        if receipt.stem not in planned:
            split, view, index = receipt.stem.rsplit(".", 2)
            remove(store.path / split / "moments" / "c" / view / index)
            receipt.unlink()


def write_split(store: Store, split: str, shape: tuple[int, ...], labels: np.ndarray, rows: np.ndarray) -> None:
    """A split's group: its labels, rows, and the metadata of its moments, whose shards are there."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files))
    for name, values in (("labels", labels), ("rows", rows)):
        if len(values) != store.counts[split]:
            raise ValueError(f"{split}: {len(values)} {name} for {store.counts[split]} images")
        array = group.create_array(name, shape=values.shape, chunks=(max(1, min(len(values), 2**16)),), dtype="int64",
                                   fill_value=LOST, serializer=BytesCodec(), compressors=[Crc32cCodec()])  # fmt: skip
        array[:] = values
    metadata: dict[str, Buffer] = {}
    moments_array(metadata, store, split, shape)
    files["moments/zarr.json"] = metadata["zarr.json"]
    for key, buffer in files.items():
        write_bytes(store.path / split / key, buffer.to_bytes())


def measure(store: Store, channels: int) -> dict[str, list[float]]:
    """Shift and scale that give samples of train's first view mean 0 and variance 1 in each channel.

    A sample's variance is that of the means plus the mean of the posterior's variances.
    """
    sums = np.zeros((3, channels))  # of mean, mean squared, variance
    values = 0
    for chunk in chunks(store, "train"):
        mean, *logvar = np.split(chunk.astype(np.float64), chunk.shape[1] // channels, axis=1)  # (n, C, h, w) each
        variance = np.exp(logvar[0]) if logvar else np.zeros_like(mean)
        sums += [x.sum(axis=(0, 2, 3)) for x in (mean, mean**2, variance)]
        values += mean[:, 0].size
    shift, square, variance = sums / values
    spread = square - shift**2 + variance
    if (spread <= 0).any():
        channel = int(np.argmin(spread))
        raise UserError(f"{store.path}: channel {channel} is the same everywhere, so its scale cannot be measured")
    scale = 1 / np.sqrt(spread)
    return {"scale": scale.tolist(), "shift": shift.tolist()}


def chunks(store: Store, split: str) -> Iterator[np.ndarray]:
    """The first view's moments of a split whose store is not yet finished, float16 (256 or fewer, 2C, h, w)."""
    array = zarr.open_array(str(store.path / split / "moments"), mode="r")
    for start in range(0, store.counts[split], CHUNK):
        yield read_whole(array, (0, slice(start, start + CHUNK)))


def fixed(numbers: Numbers, channels: int) -> dict[str, list[float]]:
    """The numbers for each channel."""
    return {name: np.broadcast_to(np.float64(numbers[name]), channels).tolist() for name in ("scale", "shift")}


def attributes(path: Path) -> dict[str, Any]:
    """The root's attributes; UserError where there is no finished latent store."""
    return read_mark(path, FORMAT, "latent store")


def open_store(path: Path, expected: dict[str, Any] | None = None) -> Latents:
    """A finished store, of the `expected` identity (any of its keys) if one is given.

    Raises UserError for an unfinished or foreign store, and for the first key that differs.
    """
    found = attributes(path)
    if difference := first_difference(found["identity"], expected or {}):
        key, has, wanted = difference
        raise UserError(f"{path}: {key} is {has}, but {wanted} is wanted; delete it and run again")
    try:
        arrays = {split: open_arrays(path / split) for split in found["counts"]}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path}: cannot be opened ({error}); {REMEDY}") from None
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


def open_arrays(split: Path) -> dict[str, zarr.Array]:
    return {name: zarr.open_array(str(split / name), mode="r") for name in ARRAYS}


def first_difference(has: Any, wanted: Any, key: str = "") -> tuple[str, str, str] | None:
    """The first key of `wanted`, dotted, whose value in `has` is another one, and both as JSON."""
    if isinstance(has, dict) and isinstance(wanted, dict):
        pairs = ((f"{key}.{name}".lstrip("."), has.get(name), value) for name, value in wanted.items())
        return next((found for name, a, b in pairs if (found := first_difference(a, b, name))), None)
    return (key, canonical(has), canonical(wanted)) if canonical(has) != canonical(wanted) else None
