"""The HDF5 image store.

images  uint8 (N, H, W, C), chunked      attributes: name, source, classes (names), split_rule (JSON),
labels  int64 (N,), -1 for none                      content (sha256 of the three arrays)
split   uint8 (N,), an index into data.splits.SPLITS
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic

CHUNK = 256  # images per chunk


class Images(NamedTuple):
    """Rows of a store: images uint8 (N, H, W, C), labels int64 (N,), rows int64 (N,) their indices in the store."""

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def content_hash(*arrays: np.ndarray) -> str:
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dtype}{array.shape}".encode())
        hashed.update(np.ascontiguousarray(array))
    return hashed.hexdigest()


def write(path: Path, images: np.ndarray, labels: np.ndarray, split: np.ndarray, **attributes: object) -> None:
    """Write a store, whole or not at all. Attributes that are no plain text or number are stored as JSON."""
    with atomic(path) as partial, h5py.File(partial, "w") as file:
        chunk = min(CHUNK, len(images))
        file.create_dataset("images", data=images, chunks=(chunk, *images.shape[1:]), compression="gzip", shuffle=True)
        file.create_dataset("labels", data=labels.astype(np.int64))
        file.create_dataset("split", data=split.astype(np.uint8))
        file.attrs["content"] = content_hash(images, labels, split)
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, str | int | float) else json.dumps(value)


def read(path: Path, splits: Sequence[str]) -> Images:
    """The rows of the named splits, in the order of the store."""
    with open_store(path) as file:
        wanted = [SPLITS.index(split) for split in splits]
        rows = np.flatnonzero(np.isin(file["split"][:], wanted))
        return Images(file["images"][:][rows], file["labels"][:][rows], rows)


def describe(path: Path) -> dict:
    """What the store says of itself: content, classes, image size and channels, counts per split."""
    with open_store(path) as file:
        n, height, _, channels = file["images"].shape
        counts = {name: int((file["split"][:] == i).sum()) for i, name in enumerate(SPLITS)}
        classes = json.loads(file.attrs["classes"])
        content = str(file.attrs["content"])
    return {
        "content": content,
        "classes": classes,
        "size": height,
        "channels": channels,
        "images": n,
        **counts,
    }


def open_store(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable image store ({error}); delete it and run again") from None
