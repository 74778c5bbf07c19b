"""The image store: made from arrays or files, read by split or by rows. Its file format is described in `data.hdf5`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypedDict

import h5py
import numpy as np
import PIL

from diffprobe.data import convert, hdf5
from diffprobe.data.decode import Chunk, Target, decode_chunks, first_shape
from diffprobe.data.hdf5 import CHUNK, Columns, ImageStore, content_hash, open_store
from diffprobe.data.links import decoding_of, survey
from diffprobe.data.listing import Files, Masks
from diffprobe.data.masks import MaskWriter
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, digest, disk_errors, recorded, sync, write_json
from diffprobe.runtime.keyed import Key, some_of

__all__ = ["CHUNK", "Few", "Images", "StoreSummary", "batches", "check", "content_hash", "describe", "fill", "gather"]
__all__ += ["labels", "open_store", "read", "rows_of", "write"]


class Images(NamedTuple):
    """Rows of a store: images uint8 (N, H, W, C), labels int64 (N,), and their indices in the store, int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


class Few(NamedTuple):
    """Part of the images of some splits: the first `images` in a random order, so that more contain fewer."""

    images: int
    seed: int  # of the order

    @classmethod
    def of(cls, images: int | None, seed: int) -> "Few | None":
        return None if images is None else cls(images, seed)

    def picked(self, n: int) -> np.ndarray:
        """Those of n images: int64 (images,), rising."""
        return some_of(Key(self.seed, "few images"), n, self.images).numpy()


class StoreSummary(TypedDict):
    """What other rooms need to know of a store, as receipts keep it."""

    content: str  # a hash of everything in it
    classes: list[str]
    size: int
    channels: int
    images: int
    train: int  # images of each split
    select: int
    test: int


def rows_of(file: ImageStore, splits: Sequence[str], few: Few | None = None) -> np.ndarray:
    """The rows of the named splits, or few of them, in the order of the store: int64 (N,).

    Raises UserError where there are fewer than asked for.
    """
    rows = np.flatnonzero(np.isin(file["split"][:], [SPLITS.index(split) for split in splits]))
    if few is None:
        return rows
    if few.images > len(rows):
        asked = f"asked for {few.images:,} images of {' and '.join(splits)}, which have {len(rows):,}"
        raise UserError(f"{file.filename}: {asked}; lower train.images")
    return rows[few.picked(len(rows))]


def read(path: Path, splits: Sequence[str], few: Few | None = None) -> Images:
    """The rows of the named splits, or few of them, in the order of the store."""
    with open_store(path) as file:
        rows = rows_of(file, splits, few)
        return Images(gather(file, rows), file["labels"][:][rows], rows)


def labels(path: Path, split: str) -> np.ndarray:
    """The labels of one split, int64 (N,), in the order of the store."""
    with open_store(path) as file:
        return file["labels"][:][file["split"][:] == SPLITS.index(split)]


def batches(file: ImageStore, rows: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """The images of `rows`, int64 (M,) in any order, as uint8 (up to `batch`, H, W, C); one batch is in memory."""
    for start in range(0, len(rows), batch):
        yield gather(file, rows[start : start + batch])


def gather(file: ImageStore, rows: np.ndarray) -> np.ndarray:
    """The images of `rows`, int64 (M,), as uint8 (M, H, W, C); only chunks that hold some of them are read.

    Raises UserError where a chunk is damaged, or the file of an image has changed.
    """
    if file.links:
        return file.links.gather(rows)
    gathered = np.empty((len(rows), *file.shape[1:]), np.uint8)
    # Sorted by row, so that every chunk is read (and verified) once.
    order = np.argsort(rows, kind="stable")
    borders = np.flatnonzero(np.diff(rows[order] // CHUNK)) + 1
    for part in np.split(order, borders) if len(rows) else ():
        chunk = int(rows[part[0]]) // CHUNK
        gathered[part] = hdf5.read_chunk(file, chunk)[rows[part] - chunk * CHUNK]
    return gathered


def describe(path: Path) -> StoreSummary:
    with open_store(path) as file:
        n, height, _, channels = file.shape
        content, classes = file.header.content, file.header.classes
        train, select, test = np.bincount(file["split"][:], minlength=len(SPLITS)).tolist()
    return {
        "content": content, "classes": classes, "size": height, "channels": channels,
        "images": n, "train": train, "select": select, "test": test,
    }  # fmt: skip


def check(path: Path) -> list[str]:
    """Everything that is damaged in a store, one line each. Raises UserError where it cannot be opened."""
    with open_store(path, verified=False) as file:
        return list(hdf5.damage(file))


def write(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    order: np.ndarray | None = None,
    masks: MaskWriter | None = None,
    **attributes: object,
) -> None:
    """Write images uint8 (N, H, W, C) as a store, whole or not at all; attributes are kept as text or JSON."""
    with disk_errors(path, images.nbytes), atomic(path) as partial:
        # The whole file is allocated before a pixel is written, so that a full disk is noticed at once.
        hdf5.allocate(partial, images.shape, Columns(labels, split, order, attributes, masks))
        with h5py.File(partial, "r+", locking=False) as file:
            file["images"][:] = images
        hdf5.finish(partial, hdf5.chunk_hashes(images), masks)


def fill(
    path: Path,
    images: np.ndarray | Files,
    labels: np.ndarray,
    split: np.ndarray,
    *,
    size: int | None,
    channels: int,
    resize: str,
    scratch: Path,
    order: np.ndarray | None = None,
    masks: Masks | None = None,
    pixels: bool = True,
    workers: int = 1,
    report: Callable[[int], object] = lambda done: None,
    **attributes: object,
) -> None:
    """Make a store of images uint8 (N, H, W, C), or of files still to be decoded, by the rule of `data.convert`.

    Without `size` all images must be squares of one size. `order`, int64 (N,), gives each row's index in the source's
    listing. Without `pixels` only the locations of the files are stored: they are decoded, and their damage is noticed,
    on every read. Masks are stored in any case. `report` is called with the number of finished images.

    `scratch` is a folder for this store alone, on the file system of `path`. A killed run is resumed from there if
    files, labels, split, order, attributes and settings are the same. Neither `workers` nor kills change a byte of the
    store. Raises UserError for an unusable image and for a full disk.
    """
    writer = MaskWriter(masks, images, resize, workers) if masks else None
    if isinstance(images, np.ndarray):
        write(path, resized(images, size, channels, resize), labels, split, order, writer, **attributes)
        report(len(images))
        return
    columns = Columns(labels, split, order, attributes, writer)
    shape = first_shape(images, size, channels, resize)
    if pixels:
        target = Target(images.archives, scratch / "images.h5", shape, size, resize)
        decode_files(images, target, columns, scratch, workers, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        sync(target.path)
        target.path.replace(path)  # on one file system, so the store appears whole
    else:
        stamps, whole = survey(images, report), (len(labels), *shape)
        # About 128 bytes a row: name, stamp, label, split.
        with disk_errors(path, 128 * len(labels)), atomic(path) as partial:
            hdf5.write_links(partial, whole, images, stamps, decoding_of(size, resize), columns)
    clear(scratch)


def decode_files(
    files: Files, target: Target, columns: Columns, scratch: Path, workers: int, report: Callable[[int], object]
) -> None:
    """Decode files into the store `target.path` in `scratch`, resuming a killed run."""
    entries = list(files.entries)
    # Everything that the bytes of the store follow from: a killed run's work is of use to an equal one only.
    rule = [convert.VERSION, PIL.__version__, target.shape, target.size, target.resize]
    arrays = [array for array in (columns.labels, columns.split, columns.order) if array is not None]
    masks = columns.masks.masks.names if columns.masks else None  # which are read anew, unlike pixels
    rest = [hdf5.sha256(*arrays), hdf5.as_attributes(columns.attributes), *([masks] if masks else [])]
    identity = digest([rule, [str(archive) for archive in files.archives], entries, rest])
    with disk_errors(target.path, len(entries) * int(np.prod(target.shape))):
        if not can_resume(scratch, identity):
            begin(scratch, identity, (len(entries), *target.shape), columns)
        # Worker processes write pixels at these offsets without HDF5, which cannot be shared among them.
        offsets = hdf5.chunk_offsets(target.path)
        chunks = [Chunk(i, offset, entries[i * CHUNK : (i + 1) * CHUNK]) for i, offset in enumerate(offsets)]
        records = decode_chunks(chunks, target, scratch / "journal.jsonl", workers, report)
        hdf5.finish(target.path, [bytes.fromhex(record.sha256) for record in records], columns.masks)


def resized(images: np.ndarray, size: int | None, channels: int, resize: str) -> np.ndarray:
    """Images uint8 (N, H, W, C) as (N, size, size, channels)."""
    if images.shape[1:] == (size or images.shape[1], size or images.shape[1], channels):
        return images
    return np.stack(
        [convert.resize_array(image, f"image {row}", size, channels, resize) for row, image in enumerate(images)]
    )


def can_resume(scratch: Path, identity: str) -> bool:
    """Whether a run of this identity can go on with what a killed run left in `scratch`."""
    return recorded(scratch / "identity.json") == identity and (scratch / "images.h5").is_file()


def begin(scratch: Path, identity: str, shape: tuple[int, int, int, int], columns: Columns) -> None:
    """Allocate an empty store in `scratch`; nothing is left there if the disk cannot hold it."""
    clear(scratch)  # of a run with another identity
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        hdf5.allocate(scratch / "images.h5", shape, columns)
        write_json(scratch / "identity.json", identity)  # last: without it nothing is resumed
    except BaseException:
        clear(scratch)
        raise


def clear(scratch: Path) -> None:
    """Remove the files that `fill` writes to its scratch folder, and the folder unless it holds anything else."""
    for name in ("identity.json", "journal.jsonl", "images.h5"):
        (scratch / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        scratch.rmdir()
