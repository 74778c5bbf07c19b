"""The image store: made of arrays or files, read by split or by rows. Its file is described in `data.hdf5`."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import PIL
from PIL import Image

from diffprobe.data import convert, hdf5
from diffprobe.data.decode import Chunk, Work, decode, first
from diffprobe.data.hdf5 import CHUNK, Store, content_hash, open_store
from diffprobe.data.links import decoding_of, survey
from diffprobe.data.listing import Files
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, digest, read_json, write_json

__all__ = ["CHUNK", "Images", "batches", "check", "content_hash", "describe", "fill", "labels", "open_store"]
__all__ += ["read", "write"]


class Images(NamedTuple):
    """Rows of a store: images uint8 (N, H, W, C), labels int64 (N,), rows int64 (N,) their indices in the store."""

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def read(path: Path, splits: Sequence[str]) -> Images:
    """The rows of the named splits, in the order of the store."""
    with open_store(path) as file:
        rows = np.flatnonzero(np.isin(file["split"][:], [SPLITS.index(split) for split in splits]))
        return Images(gather(file, rows), file["labels"][:][rows], rows)


def labels(path: Path, split: str) -> np.ndarray:
    """The labels of one split, int64 (N,), in the order of the store."""
    with open_store(path) as file:
        return file["labels"][:][file["split"][:] == SPLITS.index(split)]


def batches(file: Store, rows: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """The images of `rows`, int64 (M,) in any order, as uint8 (up to `batch`, H, W, C); one batch is in memory."""
    for start in range(0, len(rows), batch):
        yield gather(file, rows[start : start + batch])


def gather(file: Store, rows: np.ndarray) -> np.ndarray:
    """The images of `rows`, int64 (M,), as uint8 (M, H, W, C), without reading chunks that hold none of them.

    Raises UserError where a chunk, or the file of an image, is not what it was.
    """
    if file.links:
        return file.links.gather(rows)
    found = np.empty((len(rows), *file.shape[1:]), np.uint8)
    order = np.argsort(rows, kind="stable")
    borders = np.flatnonzero(np.diff(rows[order] // CHUNK)) + 1
    for part in np.split(order, borders) if len(rows) else ():
        chunk = int(rows[part[0]]) // CHUNK
        found[part] = hdf5.sound_chunk(file, chunk)[rows[part] - chunk * CHUNK]
    return found


def describe(path: Path) -> dict:
    """What the store says of itself: content, classes, image size and channels, counts per split."""
    with open_store(path) as file:
        n, height, _, channels = file.shape
        counts = {name: int((file["split"][:] == i).sum()) for i, name in enumerate(SPLITS)}
        classes = json.loads(file.attrs["classes"])
        content = file.attrs["content"].decode()
    return {"content": content, "classes": classes, "size": height, "channels": channels, "images": n, **counts}


def check(path: Path) -> list[str]:
    """Every damage in a store, by rows, one line each. Raises UserError where it cannot be opened."""
    with open_store(path, sound=False) as file:
        return list(hdf5.damage(file))


def write(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    order: np.ndarray | None = None,
    **attributes: object,
) -> None:
    """Write images uint8 (N, H, W, C) as a store, whole or not at all; attributes are kept as text or JSON."""
    with full_disk_named(path, images.nbytes), atomic(path) as partial:
        hdf5.allocate(partial, images.shape, labels, split, attributes, order)
        with h5py.File(partial, "r+") as file:
            file["images"][:] = images
        hdf5.finish(partial, hdf5.chunk_hashes(images))


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
    pixels: bool = True,
    workers: int = 1,
    report: Callable[[int], object] = lambda done: None,
    **attributes: object,
) -> None:
    """Make a store of images uint8 (N, H, W, C) or of files still to be decoded, by the rule of `data.convert`.

    Without `size` all images must be squares of one size. `order`, int64 (N,), says where in the source's listing
    the rows were. Without `pixels` only where the files are is kept: they are decoded whenever they are read, and
    what is wrong with them is found then. `scratch` is a folder of its own on the file system of `path`; a killed run
    goes on there if files, labels, split, order, attributes and settings are the same. `report` hears the number of
    images done. Neither `workers` nor kills change a byte of the store.
    Raises UserError for an image that cannot be used and for a full disk.
    """
    if isinstance(images, np.ndarray):
        write(path, fitted(images, size, channels, resize), labels, split, order, **attributes)
        report(len(images))
        return
    shape = first(images, size, channels, resize).shape  # (H, W, C)
    if not pixels:
        whole, source = (len(labels), *shape), (images, survey(images, report), decoding_of(size, resize))
        with full_disk_named(path, 128 * len(labels)), atomic(path) as partial:
            hdf5.link(partial, whole, source, labels, split, attributes, order)
        clear(scratch)
        return
    entries, raw = list(images.entries), scratch / "images.h5"
    rule = [convert.VERSION, PIL.__version__, shape, size, resize]
    rest = [hdf5.sha256(labels, split, *(() if order is None else (order,))), hdf5.plain(attributes)]
    identity = digest([rule, [str(archive) for archive in images.archives], entries, rest])
    with full_disk_named(raw, len(entries) * int(np.prod(shape))):
        if not is_of(scratch, identity):
            begin(scratch, identity, (len(entries), *shape), labels, split, attributes, order)
        chunks = [Chunk(i, at, entries[i * CHUNK : (i + 1) * CHUNK]) for i, at in enumerate(hdf5.places(raw))]
        work = Work(images.archives, raw, shape, size, resize)
        done = decode(chunks, work, scratch / "journal.jsonl", workers, report)
        hdf5.finish(raw, [bytes.fromhex(chunk.sha256) for chunk in done])
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.replace(path)
    clear(scratch)


def fitted(images: np.ndarray, size: int | None, channels: int, resize: str) -> np.ndarray:
    """Images uint8 (N, H, W, C) as (N, size, size, channels)."""
    if images.shape[1:] == (size or images.shape[1], size or images.shape[1], channels):
        return images
    pictures = (Image.fromarray(image[..., 0] if image.shape[2] == 1 else image) for image in images)
    return np.stack([convert.fitted(it, f"image {row}", size, channels, resize) for row, it in enumerate(pictures)])


def is_of(scratch: Path, identity: str) -> bool:
    """Whether a killed run left work in `scratch` that is of use to the run of this identity."""
    with suppress(OSError, ValueError):
        return read_json(scratch / "identity.json") == identity and (scratch / "images.h5").is_file()
    return False


def begin(scratch: Path, identity: str, *store: object) -> None:
    """An empty store in `scratch` in place of whatever it held; nothing is left where the disk cannot hold it."""
    clear(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        hdf5.allocate(scratch / "images.h5", *store)
        write_json(scratch / "identity.json", identity)
    except BaseException:
        clear(scratch)
        raise


def clear(scratch: Path) -> None:
    """Remove what `fill` keeps in its scratch, and the folder unless something else is in it."""
    for name in ("identity.json", "journal.jsonl", "images.h5"):
        (scratch / name).unlink(missing_ok=True)
    with suppress(OSError):
        scratch.rmdir()


@contextmanager
def full_disk_named(path: Path, needs: int) -> Iterator[None]:
    """Turn the errors of a full disk or a used-up quota into one line; `needs` in bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
        amounts = f"needs {needs / 1e9:.3g} GB, {free / 1e9:.3g} GB free"
        raise UserError(f"{path}: no space left on the disk ({amounts}); free some and run again") from None
