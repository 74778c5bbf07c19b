"""The file of an image store: its layout, and the hashes by which damage is detected.

images  uint8 (N, H, W, C), in chunks of 256 images, uncompressed: HDF5's filters do not shrink photographs; in a store
        without pixels, the locations of the files instead (see `data.links`)
labels  int64 (N,), -1 for none
split   uint8 (N,), an index into data.splits.SPLITS
hashes  uint8 (chunks, 32), the sha256 of each chunk's images, or of what identifies their files
order   int64 (N,), only where rows are not in the order of the source's listing: row i is its image order[i]
masks   and mask_hashes, only where images have masks: see `data.masks`

attributes: source, classes (names), split_rule (JSON); content, a sha256 over shape, hashes, labels, split, order
and, where there are masks, mask_hashes and the names of classes

HDF5's locks are not used: a store is written under a name of its own and renamed when it is whole, and never changes
after that. Network file systems often have no locks, and HDF5 then refuses to open a file.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from diffprobe.data import links
from diffprobe.data.image_header import ImageHeader, read_header
from diffprobe.data.links import LinkedImages
from diffprobe.data.listing import CHUNK as CHUNK
from diffprobe.data.listing import Files
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import AccessError, UserError, access_error, one_line, unreadable
from diffprobe.runtime.system import reserve_space

if TYPE_CHECKING:
    from diffprobe.data.masks import MaskWriter

REMEDY = "delete the file and run again"
LABELS_DAMAGED = f"labels, split or hashes are damaged; {REMEDY}"
FOREIGN = "name another file or, if the workflow made it, delete it and run again"
ARRAYS = ("labels", "split", "hashes")  # of every store
Attributes = Mapping[str, object]


class Columns(NamedTuple):
    """What a store holds besides images: arrays (N,) by row, and attributes."""

    labels: np.ndarray  # -1 for none
    split: np.ndarray  # indices into splits.SPLITS
    order: np.ndarray | None  # indices in the source's listing; None where the order is the same
    attributes: Attributes
    masks: "MaskWriter | None" = None


class ImageStore(h5py.File):
    """An open image store."""

    @cached_property
    def header(self) -> ImageHeader:
        """What it says of itself. Raises whatever a file of another kind may cause."""
        return read_header(self)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C) of its images."""
        return self.header.shape

    @cached_property
    def links(self) -> LinkedImages | None:
        """The reader of a store without pixels; None where pixels are stored."""
        return None if self.header.links is None else LinkedImages(self, self.header.links, self.shape)

    def close(self) -> None:
        # Not `self.links`, which would open the reader just to close it.
        if links := self.__dict__.pop("links", None):
            links.close()
        super().close()


def shape_of(file: h5py.File) -> tuple[int, int, int, int]:
    return file["images"].shape if "images" in file else tuple(file.attrs["shape"].tolist())


def allocate(path: Path, shape: Sequence[int], columns: Columns) -> None:
    """Write a store that lacks only pixels, hashes and content, with disk space reserved for all of it.

    Raises OSError (ENOSPC) where the disk cannot hold it.
    """
    require_space(path, shape, columns)
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((min(CHUNK, shape[0]), *shape[1:]))
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)  # gives every chunk its offset now, so that processes can write it
    creation.set_fill_time(h5d.FILL_TIME_NEVER)  # every byte is written anyway
    creation.set_obj_track_times(False)  # equal content makes equal bytes
    with h5py.File(path, "w", locking=False) as file:
        h5d.create(file.id, b"images", h5t.STD_U8LE, h5s.create_simple(tuple(shape)), creation)
        write_columns(file, columns)
    with path.open("r+b") as opened:  # HDF5 leaves a sparse file, which takes no space until it is written
        reserve_space(opened.fileno(), 0, path.stat().st_size)


def write_links(
    path: Path, shape: Sequence[int], files: Files, stamps: np.ndarray, rule: str, columns: Columns
) -> None:
    """Write a whole store without pixels; `stamps` and `rule` are by `links.survey` and `links.decoding_of`."""
    with h5py.File(path, "w", locking=False) as file:
        links.write(file, tuple(shape), files, stamps, rule)
        write_columns(file, columns)
        hashes = links.chunk_hashes(file)
    finish(path, hashes, columns.masks)


def write_columns(file: h5py.File, columns: Columns) -> None:
    file["labels"] = columns.labels.astype(np.int64)
    file["split"] = columns.split.astype(np.uint8)
    file["hashes"] = np.zeros((-(-len(columns.labels) // CHUNK), 32), np.uint8)
    file.attrs["content"] = np.bytes_("0" * 64)  # of fixed length, so that it can be overwritten in place
    file.attrs.update(as_attributes(columns.attributes))
    if columns.order is not None:
        file["order"] = columns.order.astype(np.int64)
    if columns.masks is not None:
        file.create_dataset("masks", shape_of(file)[:3], np.uint8)
        file["mask_hashes"] = np.zeros(file["hashes"].shape, np.uint8)
        file.attrs["mask_classes"] = json.dumps(columns.masks.masks.names)


def require_space(path: Path, shape: Sequence[int], columns: Columns) -> None:
    """Raise ENOSPC where a store cannot fit; HDF5 itself does not fail cleanly on a full disk."""
    chunks = -(-shape[0] // CHUNK)  # the last one takes the space of a full one
    pixels = chunks * min(CHUNK, shape[0]) * math.prod(shape[1:])
    # Upper bounds: 1 MiB for HDF5's own structures, 256 bytes of index a chunk, 17 of labels, split and order a row.
    attributes = sum(len(str(value)) for value in as_attributes(columns.attributes).values())
    masks = shape[0] * shape[1] * shape[2] if columns.masks else 0
    rest = (1 << 20) + 256 * chunks + 17 * shape[0] + attributes + masks
    if shutil.disk_usage(path.parent).free < pixels + rest:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def chunk_offsets(path: Path) -> list[int]:
    """Where in the file each chunk of images begins, in bytes."""
    offsets: dict[int, int] = {}
    with h5py.File(path, "r", locking=False) as file:
        file["images"].id.chunk_iter(lambda chunk: offsets.update({chunk.chunk_offset[0] // CHUNK: chunk.byte_offset}))
    return [offsets[number] for number in sorted(offsets)]


def finish(path: Path, hashes: Sequence[bytes], masks: "MaskWriter | None" = None) -> None:
    """Write masks, the sha256 of each chunk, and the content that follows; may be repeated after a kill."""
    if masks is not None:
        masks.write(path)
    # Both are overwritten in place and of fixed length, so equal stores have equal bytes however often this runs.
    with h5py.File(path, "r+", locking=False) as file:
        file["hashes"][:] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
        file.attrs.modify("content", np.bytes_(content_of(file)))
    with path.open("r+b") as opened:
        os.fsync(opened.fileno())


def open_store(path: Path, verified: bool = True) -> ImageStore:
    """Open a store for reading. Raises UserError where it is not a store or, if `verified`, has damaged labels.

    Pixels, or the stamps of their files, are verified when they are read.
    """
    try:
        file = ImageStore(path, "r", locking=False)
    except OSError as error:
        raise access_error(path, error) or UserError(
            f"{path}: not a readable image store ({one_line(error)}); {FOREIGN}"
        ) from None
    try:
        content = file.header.content
    except Exception as error:  # a file of others may hold anything
        file.close()
        raise access_error(path, error) or UserError(
            f"{path}: not an image store of this version ({one_line(error)}); {FOREIGN}"
        ) from None
    if verified and labels_damaged(file, content):
        file.close()
        raise UserError(f"{path}: {LABELS_DAMAGED}")
    return file


def labels_damaged(file: ImageStore, content: str) -> bool:
    """Whether labels, split, order or hashes are not those that the store was made with, or mean nothing."""
    with reading(file.filename):
        labels, split = file["labels"][:], file["split"][:]
        meaningless = split.max() >= len(SPLITS) or labels.min() < -1 or labels.max() >= len(file.header.classes)
        return bool(meaningless) or content_of(file) != content


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an error of HDF5 into one line that begins with `what` is read."""
    try:
        yield
    except OSError as error:
        raise unreadable(what, error, REMEDY) from None


def damage(file: ImageStore) -> Iterator[str]:
    """What is damaged in a store, one line each; without pixels, also which of its files have changed."""
    if file.links:
        yield from file.links.damage()
    else:
        yield from chunk_damage(file, "images", "hashes")
    if "mask_hashes" in file:
        yield from chunk_damage(file, "masks", "mask_hashes")
    if labels_damaged(file, file.header.content):
        yield f"{file.filename}: {LABELS_DAMAGED}"


def read_chunk(file: ImageStore, number: int) -> np.ndarray:
    """A chunk of images, uint8 (up to 256, H, W, C), verified. Raises UserError where it is damaged."""
    start = number * CHUNK
    if file.links:
        return file.links.gather(np.arange(start, min(start + CHUNK, file.shape[0])))
    return verified_chunk(file, "images", "hashes", number)


def verified_chunk(file: ImageStore, name: str, hashes: str, number: int) -> np.ndarray:
    """Up to 256 rows of an array, compared with their hash. Raises UserError where they are damaged."""
    start = number * CHUNK
    what = f"{file.filename}: {name} of rows {start} to {min(start + CHUNK, file.shape[0]) - 1}"
    with reading(what):
        rows, expected = file[name][start : start + CHUNK], file[hashes][number].tobytes()
    if chunk_hashes(rows) != [expected]:
        raise UserError(f"{what} are damaged; {REMEDY}")
    return rows


def chunk_damage(file: ImageStore, name: str, hashes: str) -> Iterator[str]:
    """What is damaged in an array, a line for each chunk."""
    for number in range(len(file[hashes])):  # all, to report all damage at once
        try:
            verified_chunk(file, name, hashes, number)
        except AccessError:
            raise  # no damage
        except UserError as error:
            yield str(error)


def chunk_hashes(images: np.ndarray) -> list[bytes]:
    """The sha256 of each chunk of rows of bytes, as images uint8 (N, H, W, C)."""
    starts = range(0, len(images), CHUNK)
    return [hashlib.sha256(np.ascontiguousarray(images[i : i + CHUNK]).data).digest() for i in starts]


def content_hash(images: np.ndarray, labels: np.ndarray, split: np.ndarray) -> str:
    """The content of the store that these arrays make."""
    hashes = np.frombuffer(b"".join(chunk_hashes(images)), np.uint8)
    return sha256(np.array(images.shape, np.int64), hashes, labels.astype(np.int64), split.astype(np.uint8))


def content_of(file: h5py.File) -> str:
    """The content of an open store, computed from its shape and all arrays but pixels."""
    # Hashes stand for the pixels, so that opening a store does not mean reading all of it.
    names = [name for name in ("hashes", "labels", "split", "order", "mask_hashes") if name in file]
    # Stores without masks are older than this rule, and keep their content.
    parts = [str(file.attrs.get(name)) for name in ("classes", "mask_classes")] if "mask_hashes" in file else []
    texts = (np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8) for text in parts)
    return sha256(np.array(shape_of(file), np.int64), *(file[name][:] for name in names), *texts)


def sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def as_attributes(attributes: Attributes) -> dict[str, str | int | float]:
    """Attributes as HDF5 keeps them: text and numbers unchanged, everything else as JSON."""
    return {
        key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in attributes.items()
    }
