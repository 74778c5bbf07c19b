"""A latent store completed, once all its parts are made: labels, rows, the scale, and last the mark."""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.latents.parts import AGAIN, CHUNK, Store, made, missing, moments_array, receipts
from diffprobe.latents.shards import Shards
from diffprobe.latents.store import FORMAT
from diffprobe.runtime.arrays import create_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import disk_errors, write_bytes
from diffprobe.runtime.manifests import write_manifest
from diffprobe.runtime.removal import remove_store

LOST = np.iinfo(np.int64).min  # no label and no row; as fill value part of the array's metadata
Numbers = dict[str, float | list[float]]  # {"scale": ..., "shift": ...}, one for all channels or one for each


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
    with disk_errors(store.path, again=AGAIN):
        prune(store)
        for split in store.counts:
            write_split(store, split, shape, labels[split], rows[split])
        scaling = measure(store, shape, channels) if numbers is None else fixed(numbers, channels)
        found = {
            "identity": {**store.identity, "seed": store.seed, "views": store.views, "scale": rule},
            "holds": store.holds,
            "counts": store.counts,
            "shape": (channels, *shape[1:]),
            "shard_chunks": store.shard_chunks,
            **scaling,
            "content": content([receipt["sha256"] for receipt in written], labels, rows),
        }
        write_manifest(store.path, FORMAT, found)


def content(parts: list[str], labels: dict[str, np.ndarray], rows: dict[str, np.ndarray]) -> str:
    """A hash that changes with any byte of the data; `parts` holds the shards' hashes, in order."""
    hashed = hashlib.sha256("".join(parts).encode())
    for split, values in labels.items():
        hashed.update(values.tobytes() + rows[split].tobytes())
    return hashed.hexdigest()


def prune(store: Store) -> None:
    """Remove shards and receipts of an earlier plan: of more views, or of shorter shards."""
    planned = {part.name for part in store.parts}
    for receipt in receipts(store.path).glob("*.json"):
        part = re.fullmatch(r"(train|select|test)\.(\d+)\.(\d+)", receipt.stem)
        if part and receipt.stem not in planned:
            split, view, index = part.groups()
            remove_store(store.path / split / "moments" / "c" / view / index, ["0/0/0"])
            receipt.unlink()


def write_split(store: Store, split: str, shape: tuple[int, ...], labels: np.ndarray, rows: np.ndarray) -> None:
    """A split's group: its labels, rows, and the metadata of its moments, whose shards are there."""
    files: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(files))
    for name, values in (("labels", labels), ("rows", rows)):
        if len(values) != store.counts[split]:
            raise ValueError(f"{split}: {len(values)} {name} for {store.counts[split]} images")
        chunks = (max(1, min(len(values), 2**16)),)
        array = create_array(
            MemoryStore(files), name=name, shape=values.shape, chunks=chunks, dtype="int64", fill_value=LOST
        )
        array[:] = values
    metadata: dict[str, Buffer] = {}
    moments_array(metadata, store, split, shape)
    files["moments/zarr.json"] = metadata["zarr.json"]
    for key, buffer in files.items():
        write_bytes(store.path / split / key, buffer.to_bytes())


def measure(store: Store, shape: tuple[int, ...], channels: int) -> dict[str, list[float]]:
    """Shift and scale that give samples of train's first view mean 0 and variance 1 in each channel.

    A sample's variance is that of the means plus the mean of the posterior's variances.
    """
    sums = np.zeros((3, channels))  # of mean, mean squared, variance
    values = 0
    for chunk in chunks(store, "train", shape):
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


def chunks(store: Store, split: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The first view's moments of a split whose store is not yet finished, float16 (256 or fewer, *shape)."""
    n = store.counts[split]
    shards = Shards(store.path / split / "moments", n, 2 * math.prod(shape), store.shard_chunks)
    for chunk in range(-(-n // CHUNK)):
        yield shards.chunk(0, chunk).view(np.float16).reshape(-1, *shape)


def fixed(numbers: Numbers, channels: int) -> dict[str, list[float]]:
    """The numbers for each channel."""
    return {name: np.broadcast_to(np.float64(numbers[name]), channels).tolist() for name in ("scale", "shift")}
