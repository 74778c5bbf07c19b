"""The store of generated images: filled chunk by chunk, resumed after a kill, read by rows.

{name}.zarr, zarr v3:
  zarr.json   attributes: format, about (what the images were drawn by), shape (N, H, W, C), content (a sha256 over
              shape and pixels), checksum (of these); written last, it marks the store as complete
  images      uint8 (N, H, W, C), chunks of 256 images with a crc32c each, uncompressed; attribute identity: a digest of
              what the images are drawn by, by which a resumed run decides whether chunks are kept
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.runtime.arrays import create_array, open_array, read_array
from diffprobe.runtime.errors import AccessError, UserError
from diffprobe.runtime.files import clear_partials, digest, disk_errors, recorded, write_bytes
from diffprobe.runtime.locks import exclusive
from diffprobe.runtime.manifests import ROOT, read_manifest, write_manifest
from diffprobe.runtime.removal import remove_store

FORMAT = "diffprobe samples 1"
CHUNK = 256  # images per chunk
LAYOUT = (ROOT, f"images/{ROOT}", r"images/c/\d+/0/0/0")  # patterns of the files in a store
REMEDY = "delete its zarr.json and run again: complete chunks are kept"


@dataclass(frozen=True)
class SampleStore:
    """A complete store."""

    path: Path  # its folder
    about: dict[str, Any]  # what the images were drawn by, as passed to `fill`
    shape: tuple[int, int, int, int]  # (N, H, W, C)
    content: str  # a hash of everything in it
    array: zarr.Array

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, H, W, C). Chunks of 256 are read whole, so aligned ranges are the cheapest.

        Raises UserError where a chunk is damaged or missing.
        """
        return read_verified(self.array, start, stop)


@dataclass(frozen=True)
class Blueprint:
    """What a store is going to hold."""

    path: Path
    shape: tuple[int, int, int, int]  # (N, H, W, C)
    about: dict[str, Any]
    drawn_by: str = ""

    @property
    def identity(self) -> str:
        return digest([FORMAT, CHUNK, list(self.shape), self.about, self.drawn_by])

    def array(self, files: dict[str, Buffer]) -> zarr.Array:
        """The array in memory: its metadata, and whatever is assigned, appear in `files` as zarr would write them."""
        return create_array(
            MemoryStore(files),
            shape=self.shape,
            chunks=(min(CHUNK, self.shape[0]), *self.shape[1:]),
            dtype="uint8",
            fill_value=0,
            attributes={"identity": self.identity},
            config={"write_empty_chunks": True},  # or black images would look like missing ones
        )

    def writing(self) -> AbstractContextManager[None]:
        return disk_errors(self.path, math.prod(self.shape))


def chunk_spans(n: int) -> Iterator[tuple[int, int]]:
    """The rows [start, stop) of each chunk."""
    return ((start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def fill(
    path: Path,
    n: int,
    shape: tuple[int, int, int],
    about: dict[str, Any],
    draw: Callable[[int, int], np.ndarray],
    report: Callable[[int], object],
    drawn_by: str = "",
) -> None:
    """Make a store of `n` images of `shape` (H, W, C) at `path`, a name that ends in .zarr.

    `draw(start, stop)` returns the images of whole chunks, uint8 (stop - start, H, W, C). Image i must depend on i and
    `about` (anything JSON can hold) alone. Complete chunks that a killed run with the same n, shape, `about` and
    `drawn_by` (such as the code's version) left are kept; another store of samples is removed first. A lock admits one
    process at a time. `report` is called with the number of finished images, kept ones included. Neither kills nor
    damage change a byte of the store. Raises UserError for a full disk, and where a store to be removed holds foreign
    files.
    """
    if path.suffix != ".zarr":
        raise ValueError(f"{path}: not named *.zarr, so it may not be replaced")
    plan = Blueprint(path, (n, *shape), about, drawn_by)
    with exclusive(path.with_suffix(".lock"), lambda owner: None):
        begin(plan)
        # Hashing while drawing spares a second pass over the store.
        array = zarr.open_array(str(path / "images"), mode="r")
        hashed = content_hasher(plan.shape)
        for start, stop in chunk_spans(n):
            hashed.update(read_or_draw(plan, array, start, stop, draw).data)
            report(stop)
        finish(plan, hashed.hexdigest())


def begin(plan: Blueprint) -> None:
    """An incomplete store, in place of one with another identity; one with the same is left as it is."""
    files: dict[str, Buffer] = {}
    plan.array(files)
    metadata = plan.path / "images" / ROOT
    with plan.writing():
        # The identity lies in the array's metadata, the first file written, so that even a store that was killed at
        # its first chunk says what it is.
        if recorded(metadata, "attributes", "identity") != plan.identity:
            remove_store(plan.path, LAYOUT)
        if not metadata.is_file() or metadata.read_bytes() != files[ROOT].to_bytes():
            unmark(plan.path)
            write_bytes(metadata, files[ROOT].to_bytes())


def unmark(path: Path) -> None:
    """Mark a store as incomplete, before anything in it changes."""
    with suppress(FileNotFoundError, NotADirectoryError):
        (path / ROOT).unlink()


def read_or_draw(
    plan: Blueprint, array: zarr.Array, start: int, stop: int, draw: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    """The images of a chunk: those on disk if they are sound, else newly drawn and written."""
    try:
        return read_verified(array, start, stop)
    except AccessError:
        raise
    except UserError:  # missing, or damaged by the kill
        pass
    images = np.ascontiguousarray(draw(start, stop))
    write_chunk(plan, start, images)
    return images


def write_chunk(plan: Blueprint, start: int, images: np.ndarray) -> None:
    """Write the chunk that begins at row `start`, whole or not at all."""
    expected = (min(CHUNK, plan.shape[0] - start), *plan.shape[1:])
    if (images.dtype, images.shape) != (np.uint8, expected):
        raise ValueError(f"drew {images.dtype} {images.shape} instead of uint8 {expected}")
    # zarr encodes the chunk in memory; `write_bytes` then puts it in place whole or not at all.
    files: dict[str, Buffer] = {}
    plan.array(files)[start : start + len(images)] = images
    target = chunk_file(plan.path, start)
    with plan.writing():
        unmark(plan.path)
        clear_partials(target)  # safe under the lock of `fill`
        write_bytes(target, files[str(target.relative_to(plan.path / "images"))].to_bytes())


def chunk_file(path: Path, row: int) -> Path:
    return path / "images" / f"c/{row // CHUNK}/0/0/0"


def finish(plan: Blueprint, content: str) -> None:
    """Mark a store as complete."""
    with plan.writing():
        clear_partials(plan.path / ROOT)
        write_manifest(plan.path, FORMAT, {"about": plan.about, "shape": list(plan.shape), "content": content})


def content_hasher(shape: tuple[int, ...]) -> "hashlib._Hash":
    """The hash of a store's content, to be updated with its pixels in order."""
    return hashlib.sha256(np.array(shape, np.int64).data)


def read_verified(array: zarr.Array, start: int, stop: int) -> np.ndarray:
    """Rows of a store's array. Raises UserError where a checksum is wrong or a chunk is missing."""
    if not 0 <= start <= stop <= array.shape[0]:
        raise ValueError(f"rows {start} to {stop} of {array.shape[0]} images")
    # Writable and contiguous, as torch wants arrays that it shares memory with.
    return np.require(read_array(array, REMEDY, slice(start, stop)), np.uint8, ["C", "W"])


def open_samples(path: Path) -> SampleStore:
    """A complete store, by its folder or its zarr.json. Raises UserError for one that is incomplete or foreign.

    Pixels are verified when they are read.
    """
    path = path.parent if path.name == ROOT else path
    attributes = read_manifest(path, FORMAT, "store of samples")
    array = open_array(path / "images", "delete the store and run again")
    chunk = min(CHUNK, array.shape[0]) if array.ndim == 4 else None
    if (list(array.shape), array.dtype, array.chunks[0]) != (attributes.get("shape"), np.uint8, chunk):
        layout = f"{array.dtype} {array.shape} in chunks of {array.chunks[0]}"
        raise UserError(f"{path}: its array of images is damaged ({layout}); delete the store and run again")
    n, height, width, channels = array.shape
    about, content = attributes.get("about", {}), attributes.get("content", "")
    if not isinstance(about, dict) or not isinstance(content, str):
        raise UserError(f"{path / ROOT}: about or content is of another type; delete the store and run again")
    return SampleStore(path, about, (n, height, width, channels), content, array)


def check(path: Path) -> list[str]:
    """Everything that is damaged in a store, one line each, in one pass over all its bytes."""
    try:
        samples = open_samples(path)
    except AccessError:
        raise
    except UserError as error:
        return [str(error)]
    damage, hashed = [], content_hasher(samples.shape)
    for start, stop in chunk_spans(samples.shape[0]):
        try:
            hashed.update(samples.read(start, stop).data)
        except AccessError:
            raise
        except UserError as error:
            damage.append(str(error))
    # Chunks may each be sound and yet be those of another store.
    if not damage and hashed.hexdigest() != samples.content:
        damage.append(f"{samples.path}: its images are not those it was completed with; delete it and run again")
    return damage
