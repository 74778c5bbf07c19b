"""Any set of images as a stream: image stores, samples, .npz and .npy, zips, folders.

All kinds obey the rule of `data.convert`; without `size` their images have to be squares of one size already.
"""

import math
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import PIL
from numpy.lib import format as npy
from PIL import Image

from diffprobe.data import convert, decode, sources
from diffprobe.data.archives import Archives
from diffprobe.data.decode import THREADS
from diffprobe.data.fingerprint import fingerprint
from diffprobe.data.images import gather, open_store
from diffprobe.data.listing import Files
from diffprobe.data.samples import open_samples
from diffprobe.data.sources.names import shown
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.runtime.manifests import ROOT

KEY = "arr_0.npy"  # an .npz's member with the images, as ADM's suite has it
RULE = {"rule": convert.VERSION, "pillow": PIL.__version__}  # by which files are decoded and sizes changed
BLOCK = 256  # images read ahead at least: a chunk of the stores
SUFFIXES = {".h5": "store", ".npz": "array", ".npy": "array", ".zip": "zip"}
KINDS = "an image store (.h5), samples (.zarr), .npz or .npy of uint8 (N, H, W, C), a .zip or a folder of images"


@dataclass(frozen=True)
class ImageSet:
    """Images by row. `read` is made for rows in order; the files that it needs are closed when the set is gone."""

    origin: str  # what receipts and errors call it
    n: int
    shape: tuple[int, int, int]  # (H, W, C) of every image
    read: Callable[[int, int], np.ndarray]  # (start, stop) to uint8 (stop - start, H, W, C); UserError for damage
    identify: Callable[[], dict[str, Any]]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells its content; found out when it is first asked for, since files have to be hashed for it."""
        return self.identify()


def open_images(
    path: Path,
    *,
    splits: Sequence[str] | None = None,
    size: int | None = None,
    resize: str = "crop",
    channels: int | None = None,
) -> ImageSet:
    """The images at `path`, by what is there; those of an image store by `splits`, in its order, None for all.

    Without `channels` files are read in colour, and what is an array already stays grey or in colour. Raises UserError
    for what cannot be read, and for images that are not of one size where `size` is not given.
    """
    path = Path(path).expanduser()
    kind = kind_of(path)
    if splits is not None and kind != "store":
        raise UserError(f"{shown(path)}: only an image store (.h5) has splits; leave them out")
    if kind in ("zip", "folder"):
        return of_files(path, kind, size, resize, channels or 3)
    images = of_store(path, splits) if kind == "store" else {"samples": of_samples, "array": of_array}[kind](path)
    return fitted(images, size, resize, channels)


def kind_of(path: Path) -> str:
    """`store`, `samples`, `array`, `zip` or `folder`. Raises UserError for anything else."""
    if path.suffix == ".zarr" or path.name == ROOT:
        return "samples"
    kind = "folder" if path.is_dir() else SUFFIXES.get(path.suffix.lower())
    if kind is None or not path.exists():
        what = "holds no images in a known form" if path.exists() else "no such file or folder"
        raise UserError(f"{shown(path)}: {what}; images are read from {KINDS}")
    return kind


def of_store(path: Path, splits: Sequence[str] | None) -> ImageSet:
    """The rows of the named splits of an image store, in its order."""
    named = [split for split in SPLITS if splits is None or split in splits]
    if unknown := set(splits or ()) - set(SPLITS):
        raise UserError(f"{shown(path)}: no split {shown(min(unknown))}; there are {', '.join(SPLITS)}")
    file = open_store(path)
    rows = np.flatnonzero(np.isin(file["split"][:], [SPLITS.index(split) for split in named]))
    origin = f"{shown(path)} ({', '.join(named)})"
    if not len(rows):
        raise UserError(f"{origin}: holds no image; choose other splits")
    identity, shape = {"content": file.attrs["content"].decode(), "splits": named}, file.shape[1:]
    return ImageSet(origin, len(rows), shape, lambda start, stop: gather(file, rows[start:stop]), lambda: identity)


def of_samples(path: Path) -> ImageSet:
    samples = open_samples(path)
    identity = {"content": samples.content, "about": samples.about}
    return ImageSet(shown(samples.path), samples.shape[0], samples.shape[1:], samples.read, lambda: identity)


def of_array(path: Path) -> ImageSet:
    """The images of an .npy, or of the arr_0 of an .npz, as ADM's suite has them."""
    with readable(path):
        rows = Rows(path)
    return ImageSet(shown(path), rows.shape[0], rows.shape[1:], rows.read, lambda: {"sha256": sha256(path)})


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """One line for a file that is not what it should be."""
    try:
        yield
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"{shown(path)}: cannot be read whole ({error!r}); fetch or make it again") from None


class Rows:
    """The rows of an .npy, on disk or inside a zip, without loading it whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.turn = path, Lock()
        self.stream, length = opened(path)
        weakref.finalize(self, self.stream.close)
        self.shape = image_shape(path, self.stream)  # (N, H, W, C)
        self.offset = self.stream.tell()
        if length != self.offset + math.prod(self.shape):
            raise ValueError(f"it has {length} bytes, its header tells of {self.offset + math.prod(self.shape)}")

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, H, W, C); forward is cheap. A zip's checksum is compared where its last row is read."""
        images = np.empty((stop - start, *self.shape[1:]), np.uint8)
        with self.turn, readable(self.path):
            self.stream.seek(self.offset + start * math.prod(self.shape[1:]))
            if self.stream.readinto(images.reshape(-1)) != images.size:
                raise EOFError("it ends early")
        return images


def opened(path: Path) -> tuple[Any, int]:
    """An .npy as a binary stream, and its length in bytes."""
    if path.suffix.lower() == ".npy":
        return path.open("rb"), path.stat().st_size
    archive = zipfile.ZipFile(path)
    if KEY not in archive.namelist():
        has = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:9]) or "nothing"
        raise UserError(f"{shown(path)}: holds no arr_0 (it has {shown(has)}); save the images as arr_0")
    return archive.open(KEY), archive.getinfo(KEY).file_size


def image_shape(path: Path, stream: Any) -> tuple[int, int, int, int]:
    """(N, H, W, C) by an .npy's header, which is read; UserError where it tells of no images."""
    read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    if dtype != np.uint8 or len(shape) not in (3, 4) or by_columns or 0 in shape:
        what = f"{dtype} {shape}{' in the order of Fortran' if by_columns else ''}"
        raise UserError(f"{shown(path)}: holds {what}; images are uint8 (N, H, W, C) or (N, H, W), in C's order")
    return (*shape, 1) if len(shape) == 3 else shape


class Decoder:
    """The images of files, decoded by a few threads."""

    def __init__(self, files: Files, size: int | None, resize: str, channels: int) -> None:
        self.entries = files.entries
        shape = decode.first(files, size, channels, resize).shape
        self.work = decode.Work(files.archives, Path(), shape, size, resize)
        self.archives = Archives(files.archives)

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, H, W, C). Raises UserError for the first file that is damaged or of another size."""
        with ThreadPoolExecutor(THREADS) as pool:
            decoded = pool.map(lambda it: decode.image(it, self.work, self.archives.read), self.entries[start:stop])
            return np.array(list(decoded), np.uint8).reshape(-1, *self.work.shape)


def of_files(path: Path, kind: str, size: int | None, resize: str, channels: int) -> ImageSet:
    """The images of a zip or a folder, in the order of their names' bytes; `fingerprint` tells them."""
    source = {"kind": kind, "labels": False, "path": str(path), "paths": [str(path)]}
    found = Decoder(sources.find(source, {}).images, size, resize, channels)
    rule = {**RULE, "size": size, "resize": size and resize, "channels": channels}
    n, shape = len(found.entries), found.work.shape
    return ImageSet(shown(path), n, shape, found.read, lambda: {"files": fingerprint([str(path)]), **rule})


def fitted(images: ImageSet, size: int | None, resize: str, channels: int | None) -> ImageSet:
    """The images by the rule of `data.convert`; those that need no change are left alone."""
    height, width, has = images.shape
    if has not in convert.MODES or (size is None and height != width):
        shapes = "images are to have 1 or 3 channels, and to be squares unless `size` is set"
        raise UserError(f"{images.origin}: holds images of {images.shape}; {shapes}")
    shape = (size or height, size or height, channels or has)
    if shape == images.shape:
        return images
    rule = {**RULE, "size": shape[0], "resize": resize, "channels": shape[2]}
    read = partial(fit, images, *shape[1:], resize)
    return replace(images, shape=shape, read=read, identify=lambda: {**images.identity, **rule})


def fit(images: ImageSet, size: int, channels: int, resize: str, start: int, stop: int) -> np.ndarray:
    """Rows of a set as uint8 (stop - start, size, size, channels)."""
    found = np.empty((stop - start, size, size, channels), np.uint8)
    for row, image in enumerate(images.read(start, stop)):
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        found[row] = convert.fitted(picture, f"image {start + row} of {images.origin}", size, channels, resize)
    return found


def batches(images: ImageSet, batch: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """The images of rows start..stop in order, as uint8 (up to `batch`, H, W, C).

    One thread reads ahead while the caller is at work: two blocks of 256 images (of more where `batch` is more) are
    in memory, and what the caller holds. What `images.read` raises is raised here; the thread ends with the iterator.
    """
    stop = images.n if stop is None else stop
    if not 0 <= start <= stop <= images.n or batch < 1:
        raise ValueError(f"{images.origin}: rows {start} to {stop} of {images.n} in batches of {batch}")
    return recut(ahead(images, -(-batch // BLOCK) * BLOCK, start, stop), batch)


def ahead(images: ImageSet, rows: int, start: int, stop: int) -> Iterator[np.ndarray]:
    """Blocks that begin at multiples of `rows`, each read while the caller has the one before."""
    borders = [start, *range((start // rows + 1) * rows, stop, rows), stop]
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(images.read, *borders[:2])
        for span in pairwise(borders[1:]):
            block = coming.result()
            coming = reader.submit(images.read, *span)
            yield block
        yield coming.result()


def recut(blocks: Iterator[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    """Blocks cut anew into batches, which are views of a block."""
    left = np.empty(0)  # the images of a batch that is not yet full
    for block in blocks:
        block = np.concatenate([left, block]) if len(left) else block
        whole = len(block) // batch * batch
        yield from (block[row : row + batch] for row in range(0, whole, batch))
        left = block[whole:].copy()
    if len(left):
        yield left
