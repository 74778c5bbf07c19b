"""The file of an image store: what is where in it, and what is kept of it to find damage.

images  uint8 (N, H, W, C), in chunks of 256 images, not compressed: photographs do not shrink by HDF5's filters;
        or, in their place, where they are to be read from (`data.links`)
labels  int64 (N,), -1 for none
split   uint8 (N,), an index into data.splits.SPLITS
hashes  uint8 (chunks, 32), the sha256 of each chunk's images, or of what tells of their files
order   int64 (N,), only where the rows are not in the order of the source's listing: row i is its image order[i]

attributes: source, classes (names), split_rule (JSON); content, a sha256 over shape, hashes, labels, split and order
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from diffprobe.data import links
from diffprobe.data.links import Links
from diffprobe.data.listing import CHUNK as CHUNK
from diffprobe.data.listing import Files
from diffprobe.runtime.errors import UserError

LABELS_DAMAGED = "labels, split or hashes are damaged; delete the file and run again"
ARRAYS = ("labels", "split", "hashes")  # of every store
Attributes = Mapping[str, object]


class Store(h5py.File):
    """An open image store."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C) of its images."""
        return shape_of(self)

    @cached_property
    def links(self) -> Links | None:
        """What reads the images of a store without pixels; None where it holds them."""
        return None if "images" in self else Links(self)

    def close(self) -> None:
        if found := self.__dict__.pop("links", None):
            found.close()
        super().close()


def shape_of(file: h5py.File) -> tuple[int, int, int, int]:
    return file["images"].shape if "images" in file else tuple(file.attrs["shape"].tolist())


def allocate(
    path: Path,
    shape: Sequence[int],
    labels: np.ndarray,
    split: np.ndarray,
    attributes: Attributes,
    order: np.ndarray | None = None,
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
        describe(file, labels, split, attributes, order)
    with path.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)


def link(
    path: Path,
    shape: Sequence[int],
    source: tuple[Files, np.ndarray, str],
    labels: np.ndarray,
    split: np.ndarray,
    attributes: Attributes,
    order: np.ndarray | None = None,
) -> None:
    """Make a whole store without pixels; `source` is the files, their stamps and how they are decoded."""
    with h5py.File(path, "w") as file:
        links.write(file, tuple(shape), *source)
        describe(file, labels, split, attributes, order)
        hashes = links.hashes(file)
    finish(path, hashes)


def describe(
    file: h5py.File, labels: np.ndarray, split: np.ndarray, attributes: Attributes, order: np.ndarray | None
) -> None:
    """Add all but images, hashes and content, and their places."""
    file["labels"] = labels.astype(np.int64)
    file["split"] = split.astype(np.uint8)
    file["hashes"] = np.zeros((-(-len(labels) // CHUNK), 32), np.uint8)
    file.attrs["content"] = np.bytes_("0" * 64)  # of fixed length, so that it is replaced in its place
    file.attrs.update(plain(attributes))
    if order is not None:
        file["order"] = order.astype(np.int64)


def require(path: Path, shape: Sequence[int], attributes: Attributes) -> None:
    """Raise ENOSPC where a store is sure not to fit: HDF5 itself does not fail cleanly on a full disk."""
    chunks = -(-shape[0] // CHUNK)
    pixels = chunks * min(CHUNK, shape[0]) * math.prod(shape[1:])
    rest = (1 << 20) + 256 * chunks + 17 * shape[0] + sum(len(str(value)) for value in plain(attributes).values())
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


def open_store(path: Path, sound: bool = True) -> Store:
    """Open a store for reading. Raises UserError where it is none or, if it is to be `sound`, not as it was written.

    Pixels, or what tells of their files, are compared when they are read.
    """
    try:
        file = Store(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable image store ({error}); delete it and run again") from None
    due = (*(links.ARRAYS if "shape" in file.attrs else ("images",)), *ARRAYS)
    missing = [name for name in due if name not in file]
    if not isinstance(file.attrs.get("content"), bytes):
        missing.append("content")
    if missing:
        file.close()
        raise UserError(f"{path}: not an image store of this version (no {missing[0]}); delete it and run again")
    if sound and content_of(file) != file.attrs["content"].decode():
        file.close()
        raise UserError(f"{path}: {LABELS_DAMAGED}")
    return file


def damage(file: Store) -> Iterator[str]:
    """What is wrong in a store, one line each; of one without pixels, also what has changed of its files."""
    if file.links:
        yield from file.links.damage()
    for index in range(0 if file.links else len(file["hashes"])):
        try:
            sound_chunk(file, index)
        except UserError as error:
            yield str(error)
    if content_of(file) != file.attrs["content"].decode():
        yield f"{file.filename}: {LABELS_DAMAGED}"


def sound_chunk(file: Store, index: int) -> np.ndarray:
    """A chunk of images, uint8 (up to 256, H, W, C), as it was written. Raises UserError where it is not."""
    start = index * CHUNK
    if file.links:
        return file.links.gather(np.arange(start, min(start + CHUNK, file.shape[0])))
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
    names = [name for name in ("hashes", "labels", "split", "order") if name in file]
    return sha256(np.array(shape_of(file), np.int64), *(file[name][:] for name in names))


def sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def plain(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    """Attributes as HDF5 keeps them: what is no text or number becomes JSON."""
    return {key: it if isinstance(it, str | int | float) else json.dumps(it) for key, it in attributes.items()}
