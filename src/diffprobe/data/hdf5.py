"""The file of an image store: what is where in it, and what is kept of it to find damage.

images  uint8 (N, H, W, C), in chunks of 256 images, not compressed: photographs do not shrink by HDF5's filters
labels  int64 (N,), -1 for none
split   uint8 (N,), an index into data.splits.SPLITS
hashes  uint8 (chunks, 32), the sha256 of each chunk's images

attributes: source, classes (names), split_rule (JSON); content, a sha256 over shape, hashes, labels and split
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from diffprobe.runtime.errors import UserError

CHUNK = 256  # images per chunk
LABELS_DAMAGED = "labels, split or hashes are damaged; delete the file and run again"
ARRAYS = ("images", "labels", "split", "hashes")


def allocate(
    path: Path, shape: Sequence[int], labels: np.ndarray, split: np.ndarray, attributes: Mapping[str, object]
) -> None:
    """Make a store that is whole but for pixels, hashes and content, and take its place on the disk.

    Raises OSError (ENOSPC) where the disk cannot hold it.
    """
    require(path, shape, attributes)
    early = h5p.create(h5p.DATASET_CREATE)
    early.set_chunk((min(CHUNK, shape[0]), *shape[1:]))
    early.set_alloc_time(h5d.ALLOC_TIME_EARLY)  # every chunk has its place from the start
    early.set_fill_time(h5d.FILL_TIME_NEVER)
    early.set_obj_track_times(False)  # equal content makes equal bytes
    with h5py.File(path, "w") as file:
        h5d.create(file.id, b"images", h5t.STD_U8LE, h5s.create_simple(tuple(shape)), early)
        file["labels"] = labels.astype(np.int64)
        file["split"] = split.astype(np.uint8)
        file["hashes"] = np.zeros((-(-shape[0] // CHUNK), 32), np.uint8)
        file.attrs["content"] = np.bytes_("0" * 64)  # of fixed length, so that it is replaced in its place
        file.attrs.update(plain(attributes))
    with path.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)


def require(path: Path, shape: Sequence[int], attributes: Mapping[str, object]) -> None:
    """Raise ENOSPC where a store is sure not to fit: HDF5 itself does not fail cleanly on a full disk."""
    chunks = -(-shape[0] // CHUNK)
    pixels = chunks * min(CHUNK, shape[0]) * math.prod(shape[1:])
    rest = (1 << 20) + 256 * chunks + 9 * shape[0] + sum(len(str(value)) for value in plain(attributes).values())
    if shutil.disk_usage(path.parent).free < pixels + rest:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def places(path: Path) -> list[int]:
    """Where in the file each chunk of images begins, in bytes."""
    found: dict[int, int] = {}
    with h5py.File(path, "r") as file:
        file["images"].id.chunk_iter(lambda chunk: found.update({chunk.chunk_offset[0] // CHUNK: chunk.byte_offset}))
    return [found[index] for index in sorted(found)]


def finish(path: Path, hashes: Sequence[bytes]) -> None:
    """Add what follows from the pixels, given the sha256 of each chunk; may be done again after a kill."""
    with h5py.File(path, "r+") as file:
        file["hashes"][:] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
        file.attrs.modify("content", np.bytes_(content_of(file)))
    with path.open("r+b") as opened:
        os.fsync(opened.fileno())


def open_store(path: Path, sound: bool = True) -> h5py.File:
    """Open a store for reading. Raises UserError where it is none or, if it is to be `sound`, not as it was written.

    Pixels are compared when they are read (`sound_chunk`).
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable image store ({error}); delete it and run again") from None
    missing = [name for name in ARRAYS if name not in file]
    if missing:
        file.close()
        raise UserError(f"{path}: not an image store of this version (no {missing[0]}); delete it and run again")
    if sound and content_of(file) != file.attrs["content"].decode():
        file.close()
        raise UserError(f"{path}: {LABELS_DAMAGED}")
    return file


def damage(file: h5py.File) -> Iterator[str]:
    """What is wrong in a store, one line each."""
    for index in range(len(file["hashes"])):
        try:
            sound_chunk(file, index)
        except UserError as error:
            yield str(error)
    if content_of(file) != file.attrs["content"].decode():
        yield f"{file.filename}: {LABELS_DAMAGED}"


def sound_chunk(file: h5py.File, index: int) -> np.ndarray:
    """A chunk of images, uint8 (up to 256, H, W, C), as it was written. Raises UserError where it is not."""
    start = index * CHUNK
    images = file["images"][start : start + CHUNK]
    if chunk_hashes(images) != [file["hashes"][index].tobytes()]:
        raise UserError(
            f"{file.filename}: images of rows {start} to {start + len(images) - 1} are damaged; "
            "delete the file and run again"
        )
    return images


def chunk_hashes(images: np.ndarray) -> list[bytes]:
    """The sha256 of each chunk of images uint8 (N, H, W, C)."""
    starts = range(0, len(images), CHUNK)
    return [hashlib.sha256(np.ascontiguousarray(images[i : i + CHUNK])).digest() for i in starts]


def content_hash(images: np.ndarray, labels: np.ndarray, split: np.ndarray) -> str:
    """The content of the store that these arrays make."""
    hashes = np.frombuffer(b"".join(chunk_hashes(images)), np.uint8)
    return sha256(np.array(images.shape, np.int64), hashes, labels.astype(np.int64), split.astype(np.uint8))


def content_of(file: h5py.File) -> str:
    """The content as it follows from what an open store holds besides pixels."""
    return sha256(np.array(file["images"].shape, np.int64), *(file[name][:] for name in ("hashes", "labels", "split")))


def sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def plain(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    """Attributes as HDF5 keeps them: what is no text or number becomes JSON."""
    return {key: it if isinstance(it, str | int | float) else json.dumps(it) for key, it in attributes.items()}
