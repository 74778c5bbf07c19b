"""The store of generated images: filled chunk by chunk, on from where a killed run was, and read by rows.

{name}.zarr, zarr v3:
  zarr.json   attributes: format, about (what the images were drawn by), shape (N, H, W, C), content (a sha256 over
              shape and pixels), checksum (of these); written last, the mark of completeness
  images      uint8 (N, H, W, C), chunks of 256 images with a crc32c each, not compressed; attribute identity: a
              digest of what the chunks that a killed run left were drawn by
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
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.data.images import full_disk_named
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import clear_partials, digest, read_json, write_bytes
from diffprobe.runtime.locks import exclusive
from diffprobe.runtime.manifests import ROOT, read_manifest, write_manifest
from diffprobe.runtime.removal import remove_store

FORMAT = "diffprobe samples 1"
CHUNK = 256  # images per chunk
LAYOUT = (ROOT, f"images/{ROOT}", r"images/c/\d+/0/0/0")
REMEDY = "delete its zarr.json and run again: whole chunks are kept"


@dataclass(frozen=True)
class Samples:
    """A finished store."""

    path: Path  # its folder
    about: dict[str, Any]  # as `fill` was told
    shape: tuple[int, int, int, int]  # (N, H, W, C)
    content: str  # a hash of all that it holds
    array: zarr.Array

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, H, W, C). Whole chunks of 256 are read: ask for such.

        Raises UserError where a chunk is not as it was written, or gone.
        """
        return read_whole(self.path, self.array, start, stop)


@dataclass(frozen=True)
class Plan:
    """What a store is to hold."""

    path: Path
    shape: tuple[int, int, int, int]  # (N, H, W, C)
    about: dict[str, Any]
    drawn_by: str = ""

    @property
    def identity(self) -> str:
        return digest([FORMAT, CHUNK, list(self.shape), self.about, self.drawn_by])

    def array(self, files: dict[str, Buffer]) -> zarr.Array:
        """The array, its metadata (and what is set) put into `files`, by key."""
        return zarr.create_array(
            MemoryStore(files),
            shape=self.shape,
            chunks=(min(CHUNK, self.shape[0]), *self.shape[1:]),
            dtype="uint8",
            fill_value=0,
            serializer=BytesCodec(),
            compressors=[Crc32cCodec()],
            attributes={"identity": self.identity},
            config={"write_empty_chunks": True},  # black images are images: what is not there is lost
        )

    def writing(self) -> AbstractContextManager[None]:
        return full_disk_named(self.path, math.prod(self.shape))


def spans(n: int) -> Iterator[tuple[int, int]]:
    """First row and the row after the last of each chunk."""
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

    `draw(start, stop)` gives the images of whole chunks, uint8 (stop - start, H, W, C); image i is to follow from i
    and `about`, which JSON can hold, alone. Whole chunks that a killed run of the same n, shape, `about` and `drawn_by`
    (the code, say) left are kept; another store of samples is removed first. One process fills it at a time.
    `report` hears the images done, kept ones included. Neither kills nor damage change a byte of the store. Raises
    UserError for a full disk, and where a store to be removed holds files that are not ours.
    """
    if path.suffix != ".zarr":
        raise ValueError(f"{path}: what may be removed there is a store, named *.zarr")
    plan = Plan(path, (n, *shape), about, drawn_by)
    with exclusive(path.with_suffix(".lock"), lambda owner: None):
        begin(plan)
        array = zarr.open_array(str(path / "images"), mode="r")
        hashed = start_hash(plan.shape)
        for start, stop in spans(n):
            hashed.update(chunk(plan, array, start, stop, draw))
            report(stop)
        finish(plan, hashed.hexdigest())


def begin(plan: Plan) -> None:
    """A store without its mark in place of one of another identity; one of the same is left as it is."""
    files: dict[str, Buffer] = {}
    plan.array(files)
    metadata = plan.path / "images" / ROOT
    with plan.writing():
        if identity_of(metadata) != plan.identity:
            remove_store(plan.path, LAYOUT)
        if not metadata.is_file() or metadata.read_bytes() != files[ROOT].to_bytes():
            unmark(plan.path)
            write_bytes(metadata, files[ROOT].to_bytes())


def identity_of(metadata: Path) -> str | None:
    """What the chunks beside an array's metadata were drawn by, where that can be told."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return read_json(metadata)["attributes"]["identity"]
    return None


def unmark(path: Path) -> None:
    """Remove the mark, so that it never stands on a store in change."""
    with suppress(FileNotFoundError, NotADirectoryError):
        (path / ROOT).unlink()


def chunk(plan: Plan, array: zarr.Array, start: int, stop: int, draw: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """The images of a chunk, kept or drawn; it is in its place."""
    with suppress(UserError):
        return read_whole(plan.path, array, start, stop)
    images = np.ascontiguousarray(draw(start, stop))
    put(plan, start, images)
    return images


def put(plan: Plan, start: int, images: np.ndarray) -> None:
    """Write the chunk that begins with row `start`, whole or not at all."""
    expected = (min(CHUNK, plan.shape[0] - start), *plan.shape[1:])
    if (images.dtype, images.shape) != (np.uint8, expected):
        raise ValueError(f"drawn were {images.dtype} {images.shape} for uint8 {expected}")
    files: dict[str, Buffer] = {}
    plan.array(files)[start : start + len(images)] = images
    target = chunk_file(plan.path, start)
    with plan.writing():
        unmark(plan.path)
        clear_partials(target)
        write_bytes(target, files[str(target.relative_to(plan.path / "images"))].to_bytes())


def chunk_file(path: Path, row: int) -> Path:
    return path / "images" / f"c/{row // CHUNK}/0/0/0"


def finish(plan: Plan, content: str) -> None:
    """Write the mark."""
    with plan.writing():
        clear_partials(plan.path / ROOT)
        write_manifest(plan.path, FORMAT, {"about": plan.about, "shape": list(plan.shape), "content": content})


def start_hash(shape: tuple[int, ...]) -> Any:
    """The hash of a store's content, to be given its pixels in order."""
    return hashlib.sha256(np.array(shape, np.int64))


def read_whole(path: Path, array: zarr.Array, start: int, stop: int) -> np.ndarray:
    """Rows of the array of the store at `path`; UserError where a checksum is wrong or a chunk is gone."""
    if not 0 <= start <= stop <= array.shape[0]:
        raise ValueError(f"rows {start} to {stop} of {array.shape[0]} images")
    try:
        for row in range(start // CHUNK * CHUNK, stop, CHUNK):
            chunk_file(path, row).stat()  # zarr reads what is not there as black images
        return np.require(array[start:stop], np.uint8, ["C", "W"])
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: images {start} to {stop - 1} cannot be read whole ({error!r}); {REMEDY}") from None


def open_samples(path: Path) -> Samples:
    """A finished store, by its folder or its zarr.json. Raises UserError for one that is unfinished or foreign.

    Pixels are compared with their checksums when they are read.
    """
    path = path.parent if path.name == ROOT else path
    found = read_manifest(path, FORMAT, "store of samples")
    shape = found["shape"]
    try:
        array = zarr.open_array(str(path / "images"), mode="r")
        if [list(array.shape), array.dtype, array.chunks[0]] != [shape, np.uint8, min(CHUNK, shape[0])]:
            raise ValueError(f"{array.dtype} {array.shape} in chunks of {array.chunks[0]}")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path}: its array of images is damaged ({error!r}); delete it and run again") from None
    return Samples(path, found["about"], tuple(shape), found["content"], array)


def check(path: Path) -> list[str]:
    """Everything wrong with a store, one line each, in one pass over all its bytes."""
    try:
        samples = open_samples(path)
    except UserError as error:
        return [str(error)]
    damage, hashed = [], start_hash(samples.shape)
    for start, stop in spans(samples.shape[0]):
        try:
            hashed.update(samples.read(start, stop))
        except UserError as error:
            damage.append(str(error))
    if not damage and hashed.hexdigest() != samples.content:
        damage.append(f"{samples.path}: its images are not those that it was finished with; delete it and run again")
    return damage
