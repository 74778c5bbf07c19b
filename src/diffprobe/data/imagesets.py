"""Any set of images as a stream: image stores, samples, .npz and .npy arrays, zips, folders.

All kinds follow the rule of `data.convert`; without `size` their images must already be squares of one size.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from diffprobe.data import convert, decode
from diffprobe.data.archives import Archives
from diffprobe.data.decode import THREADS
from diffprobe.data.filenames import display
from diffprobe.data.fingerprint import fingerprint
from diffprobe.data.images import Few, gather, open_store, rows_of
from diffprobe.data.listing import Files
from diffprobe.data.npy import open_npy
from diffprobe.data.samples import open_samples
from diffprobe.data.sources import folder, zips
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.runtime.manifests import ROOT

RULE = {"rule": convert.VERSION, "pillow": PIL.__version__}  # what decoded and resized pixels depend on
BLOCK = 256  # images read ahead at least: a chunk of the stores
SUFFIXES = {".h5": "store", ".npz": "array", ".npy": "array", ".zip": "zip"}
KINDS = "an image store (.h5), samples (.zarr), .npz or .npy of uint8 (N, H, W, C), a .zip or a folder of images"


@dataclass(frozen=True)
class ImageSet:
    """Images by row. `read` is fastest in ascending order; its files are closed when the set is garbage-collected."""

    origin: str  # for receipts and error messages
    n: int
    shape: tuple[int, int, int]  # (H, W, C) of every image
    read: Callable[[int, int], np.ndarray]  # (start, stop) to uint8 (stop - start, H, W, C); UserError for damage
    identify: Callable[[], dict[str, Any]]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Hashes of the content; computed on first use, since it may mean to read all files."""
        return self.identify()


def open_images(
    path: Path,
    *,
    splits: Sequence[str] | None = None,
    few: Few | None = None,
    size: int | None = None,
    resize: str = "crop",
    channels: int | None = None,
) -> ImageSet:
    """The images at `path`, whatever they are kept in; of an image store the named splits, or few of their images, in
    its order, None for all.

    Without `channels` files are read in colour, and arrays stay grey or in colour. Raises UserError for what cannot be
    read, and where `size` is not given for images of different sizes.
    """
    path = Path(path).expanduser()
    kind = kind_of(path)
    if splits is not None and kind != "store":
        raise UserError(f"{display(path)}: only an image store (.h5) has splits; leave them out")
    if kind in ("zip", "folder"):
        return open_files(path, kind, size, resize, channels or 3)
    if kind == "store":
        return resized(open_splits(path, splits, few), size, resize, channels)
    return resized(open_sample_store(path) if kind == "samples" else open_array(path), size, resize, channels)


def kind_of(path: Path) -> str:
    """`store`, `samples`, `array`, `zip` or `folder`. Raises UserError for anything else."""
    if path.suffix == ".zarr" or path.name == ROOT:
        return "samples"
    kind = "folder" if path.is_dir() else SUFFIXES.get(path.suffix.lower())
    if kind is None or not path.exists():
        what = "holds no images in a supported form" if path.exists() else "no such file or folder"
        raise UserError(f"{display(path)}: {what}; images are read from {KINDS}")
    return kind


def open_splits(path: Path, splits: Sequence[str] | None, few: Few | None = None) -> ImageSet:
    """The rows of the named splits of an image store, or few of them, in its order."""
    named = [split for split in SPLITS if splits is None or split in splits]
    if invalid := set(splits or ()) - set(SPLITS):
        raise UserError(f"{display(path)}: no split {display(min(invalid))}; choose from {', '.join(SPLITS)}")
    file = open_store(path)
    rows = rows_of(file, named, few)
    origin = f"{display(path)} ({', '.join(named)})"
    if not len(rows):
        raise UserError(f"{origin}: holds no image; choose other splits")
    shape = file.shape[1:]
    identity: dict[str, Any] = {"content": file.header.content, "splits": named} | (
        {"few": few._asdict()} if few else {}
    )
    return ImageSet(origin, len(rows), shape, lambda start, stop: gather(file, rows[start:stop]), lambda: identity)


def open_sample_store(path: Path) -> ImageSet:
    samples = open_samples(path)
    identity = {"content": samples.content, "about": samples.about}
    return ImageSet(display(samples.path), samples.shape[0], samples.shape[1:], samples.read, lambda: identity)


def open_array(path: Path) -> ImageSet:
    """The images of an .npy, or of the arr_0 of an .npz."""
    reader = open_npy(path)

    def identity() -> dict[str, Any]:
        reader.verify()
        return {"sha256": sha256(path)}

    return ImageSet(display(path), reader.shape[0], reader.shape[1:], reader.read, identity)


class Decoder:
    """The images of files, decoded by a few threads."""

    def __init__(self, files: Files, size: int | None, resize: str, channels: int) -> None:
        self.entries = files.entries
        shape = decode.first_shape(files, size, channels, resize)
        self.target = decode.Target(files.archives, Path(), shape, size, resize)
        self.archives = Archives(files.archives)

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, H, W, C). Raises UserError for the first file that is damaged or of another size."""
        with ThreadPoolExecutor(THREADS) as pool:
            images = pool.map(
                lambda entry: decode.decode_image(entry, self.target, self.archives.read), self.entries[start:stop]
            )
            return np.array(list(images), np.uint8).reshape(-1, *self.target.shape)


def open_files(path: Path, kind: str, size: int | None, resize: str, channels: int) -> ImageSet:
    """The images of a zip or a folder, sorted by the bytes of their names and identified by their fingerprint."""
    files = zips.list_files(path) if kind == "zip" else folder.list_files(path)
    decoder = Decoder(files, size, resize, channels)
    rule = {**RULE, "size": size, "resize": size and resize, "channels": channels}
    n, shape = len(files.entries), decoder.target.shape
    return ImageSet(display(path), n, shape, decoder.read, lambda: {"files": fingerprint([str(path)]), **rule})


def resized(images: ImageSet, size: int | None, resize: str, channels: int | None) -> ImageSet:
    """The images by the rule of `data.convert`; a set that needs no change is returned as it is."""
    height, width, own_channels = images.shape
    if own_channels not in convert.MODES or (size is None and height != width):
        expected = "images must have 1 or 3 channels, and be squares unless `size` is set"
        raise UserError(f"{images.origin}: holds images of {images.shape}; {expected}")
    shape = (size or height, size or height, channels or own_channels)
    if shape == images.shape:
        return images
    # Resized pixels depend on the rule too, so it joins the identity.
    rule = {**RULE, "size": shape[0], "resize": resize, "channels": shape[2]}
    read = partial(read_resized, images, shape[0], shape[2], resize)
    return replace(images, shape=shape, read=read, identify=lambda: {**images.identity, **rule})


def read_resized(images: ImageSet, size: int, channels: int, resize: str, start: int, stop: int) -> np.ndarray:
    """Rows of a set as uint8 (stop - start, size, size, channels)."""
    block = np.empty((stop - start, size, size, channels), np.uint8)
    for row, image in enumerate(images.read(start, stop)):
        block[row] = convert.resize_array(image, f"image {start + row} of {images.origin}", size, channels, resize)
    return block


def batches(images: ImageSet, batch: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """The images of rows [start, stop) in order, as uint8 (up to `batch`, H, W, C).

    While the caller works a thread reads ahead, so two blocks of 256 images (or of `batch`, rounded up) are in memory
    beside what the caller holds. Raises what `images.read` raises; the thread ends with the iterator.
    """
    stop = images.n if stop is None else stop
    if not 0 <= start <= stop <= images.n or batch < 1:
        raise ValueError(f"{images.origin}: rows {start} to {stop} of {images.n} in batches of {batch}")
    return rebatch(read_blocks(images, -(-batch // BLOCK) * BLOCK, start, stop), batch)


def read_blocks(images: ImageSet, size: int, start: int, stop: int) -> Iterator[np.ndarray]:
    """Blocks that begin at multiples of `size`; each is read while the caller uses the one before."""
    # Aligned with the chunks of stores, so that no chunk is read (and verified) twice.
    borders = [start, *range((start // size + 1) * size, stop, size), stop]
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(images.read, *borders[:2])
        for span in pairwise(borders[1:]):
            block = pending.result()
            pending = reader.submit(images.read, *span)  # runs while the caller holds `block`
            yield block
        yield pending.result()


def rebatch(blocks: Iterator[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    """Blocks cut into batches, which are views of a block."""
    rest = np.empty(0)  # the beginning of a batch that the next block completes
    for block in blocks:
        block = np.concatenate([rest, block]) if len(rest) else block
        whole = len(block) // batch * batch  # rows in full batches
        yield from (block[row : row + batch] for row in range(0, whole, batch))
        rest = block[whole:].copy()  # a view would keep the whole block in memory
    if len(rest):
        yield rest
