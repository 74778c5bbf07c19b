"""A latent store completed, once all its parts are made: labels, rows, the scale, and last the manifest."""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.latents.parts import (
    AGAIN,
    CHUNK,
    PartReceipt,
    StorePlan,
    moments_array,
    receipts_folder,
    valid_receipt,
)
from diffprobe.latents.shards import ShardReader
from diffprobe.latents.store import FORMAT
from diffprobe.runtime.arrays import create_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import disk_errors, write_bytes
from diffprobe.runtime.manifests import write_manifest
from diffprobe.runtime.removal import remove_store

LOST = np.iinfo(np.int64).min  # no label and no row; as fill value part of the array's metadata
Arrays = dict[str, np.ndarray]  # by split


class Scaling(TypedDict):
    """z in model scale is (z - shift) * scale; one number for all channels, or one for each."""

    scale: float | list[float]
    shift: float | list[float]


def finish(plan: StorePlan, labels: Arrays, rows: Arrays, rule: str | float, scaling: Scaling | None) -> None:
    """Complete a store whose parts are all made: labels and rows int64 (N,) by split, and last the manifest.

    `rule` is the config's `scale`, `scaling` what it amounts to, None for `measured`. Raises UserError where a part is
    missing.
    """
    receipts: list[PartReceipt] = []
    missing = []
    for part in plan.parts:
        if receipt := valid_receipt(plan, part):
            receipts.append(receipt)
        else:
            missing.append(part)
    if missing:
        raise UserError(f"{plan.path}: {len(missing)} parts are missing, the first is {missing[0].name}; run again")
    shape = tuple(receipts[0]["shape"])  # (2C, h, w), or (C, h, w)
    channels = shape[0] // 2 if plan.holds == "moments" else shape[0]
    with disk_errors(plan.path, again=AGAIN):
        prune(plan)  # before anything reads the folder as a store: zarr would not notice a stale shard
        for split in plan.counts:
            write_split(plan, split, shape, labels[split], rows[split])
        scaling = measured_scaling(plan, shape, channels) if scaling is None else per_channel(scaling, channels)
        attributes = {
            "identity": {**plan.identity, "seed": plan.seed, "views": plan.views, "scale": rule},
            "holds": plan.holds,
            "counts": plan.counts,
            "shape": (channels, *shape[1:]),
            "shard_chunks": plan.shard_chunks,
            **scaling,
            "content": content([receipt["sha256"] for receipt in receipts], labels, rows),
        }
        # Last of all files: a store with a manifest is complete, one without is not opened.
        write_manifest(plan.path, FORMAT, attributes)


def content(shard_hashes: list[str], labels: Arrays, rows: Arrays) -> str:
    """A hash that changes with any byte of the data."""
    # Of the shards' hashes, not their bytes: these were read once already.
    sha = hashlib.sha256("".join(shard_hashes).encode())
    for split, values in labels.items():
        sha.update(values.tobytes() + rows[split].tobytes())
    return sha.hexdigest()


def prune(plan: StorePlan) -> None:
    """Remove shards and receipts of an earlier plan, which had more views or shorter shards."""
    planned = {part.name for part in plan.parts}
    for receipt in receipts_folder(plan.path).glob("*.json"):
        part = re.fullmatch(r"(train|select|test)\.(\d+)\.(\d+)", receipt.stem)
        if part and receipt.stem not in planned:
            split, view, number = part.groups()
            remove_store(plan.path / split / "moments" / "c" / view / number, ["0/0/0"])
            receipt.unlink()


def write_split(plan: StorePlan, split: str, shape: tuple[int, ...], labels: np.ndarray, rows: np.ndarray) -> None:
    """A split's group: its labels, its rows, and the metadata of its moments, whose shards exist already."""
    # Made in memory first: zarr itself would write each file in place.
    files: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(files))
    for name, values in (("labels", labels), ("rows", rows)):
        if len(values) != plan.counts[split]:
            raise ValueError(f"{split}: {len(values)} {name} for {plan.counts[split]} images")
        chunks = (max(1, min(len(values), 2**16)),)
        array = create_array(
            MemoryStore(files), name=name, shape=values.shape, chunks=chunks, dtype="int64", fill_value=LOST
        )
        array[:] = values
    # The metadata alone: an array to which nothing is assigned has no chunks.
    metadata: dict[str, Buffer] = {}
    moments_array(metadata, plan, split, shape)
    files["moments/zarr.json"] = metadata["zarr.json"]
    for key, buffer in files.items():
        write_bytes(plan.path / split / key, buffer.to_bytes())


def measured_scaling(plan: StorePlan, shape: tuple[int, ...], channels: int) -> Scaling:
    """Shift and scale that give samples of train's first view mean 0 and variance 1 in each channel."""
    sums = np.zeros((3, channels))  # of mean, squared mean, variance
    values = 0
    for chunk in first_view(plan, "train", shape):
        mean, *logvar = np.split(chunk.astype(np.float64), chunk.shape[1] // channels, axis=1)  # (n, C, h, w) each
        variance = np.exp(logvar[0]) if logvar else np.zeros_like(mean)
        sums += [x.sum(axis=(0, 2, 3)) for x in (mean, mean**2, variance)]
        values += mean[:, 0].size
    shift, square, variance = sums / values
    # The law of total variance: that of the means, plus the mean of the posteriors' variances.
    spread = square - shift**2 + variance
    if (spread <= 0).any():
        channel = int(np.argmin(spread))
        raise UserError(f"{plan.path}: channel {channel} is constant, so its scale cannot be measured")
    scale = 1 / np.sqrt(spread)
    return {"scale": scale.tolist(), "shift": shift.tolist()}


def first_view(plan: StorePlan, split: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The first view's moments in a store that is not finished yet, float16 (256 or fewer, *shape) at a time."""
    n = plan.counts[split]
    reader = ShardReader(plan.path / split / "moments", n, 2 * math.prod(shape), plan.shard_chunks)
    for chunk in range(-(-n // CHUNK)):
        yield reader.chunk(0, chunk).view(np.float16).reshape(-1, *shape)


def per_channel(scaling: Scaling, channels: int) -> Scaling:
    scale, shift = (np.broadcast_to(np.asarray(scaling[key], np.float64), channels) for key in ("scale", "shift"))
    return {"scale": scale.tolist(), "shift": shift.tolist()}
