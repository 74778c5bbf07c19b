"""MNIST (LeCun, Cortes, Burges): 60,000 + 10,000 images of 28x28, in gzipped IDX files."""

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffprobe.config.sources.download import Download
from diffprobe.data.filenames import display
from diffprobe.data.listing import Listing
from diffprobe.data.splits import TEST, TRAIN
from diffprobe.runtime.errors import UserError, unreadable

PARTS = {"train": TRAIN, "t10k": TEST}  # the split of the files with each prefix
SIZE = 28  # pixels
UNSIGNED_BYTES = 8  # the type's code
MOST_BYTES = 2**28  # of an array; the largest of MNIST has 47 MB


def find(source: Download, archives: Mapping[str, Path]) -> Listing:
    """The images of train, then those of test. Raises UserError where a file is damaged."""
    return read_parts("MNIST", archives, tuple(map(str, range(10))))


def read_parts(dataset: str, archives: Mapping[str, Path], classes: tuple[str, ...]) -> Listing:
    """The four files of MNIST, or of a dataset in its form. Raises UserError where one is damaged or contradicts
    another.
    """
    images = [read_idx(archives[f"{part}-images-idx3-ubyte.gz"], 3) for part in PARTS]
    labels = [read_idx(archives[f"{part}-labels-idx1-ubyte.gz"], 1) for part in PARTS]
    for part, pixels, ids in zip(PARTS, images, labels, strict=True):
        remedy = "delete its files and download them again"
        if len(pixels) != len(ids):
            raise UserError(f"{dataset} {part}: {len(pixels)} images but {len(ids)} labels; {remedy}")
        if pixels.shape[1:] != (SIZE, SIZE):
            height, width = pixels.shape[1:]
            raise UserError(f"{dataset} {part}: images of {height}x{width}, expected {SIZE}x{SIZE}; {remedy}")
        if len(ids) and ids.max() >= len(classes):
            raise UserError(f"{dataset} {part}: label {ids.max()}, but there are {len(classes)} classes; {remedy}")
    official = np.repeat(list(PARTS.values()), [len(part) for part in images])
    return Listing(
        np.concatenate(labels).astype(np.int64),
        classes,
        official.astype(np.uint8),
        f"{dataset} idx files",
        np.concatenate(images)[..., None],  # (N, H, W, 1)
    )


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes: two zero bytes, type, number of dimensions, sizes (big-endian), values.

    Raises UserError where it is missing, truncated, or another kind of file.
    """
    start, remedy = 4 + 4 * dimensions, "delete it and download it again"
    try:
        with gzip.open(path) as file:
            header = file.read(start)
            if len(header) < start or header[:4] != bytes([0, 0, UNSIGNED_BYTES, dimensions]):
                raise ValueError(f"not an IDX file of {dimensions} dimensions")
            shape = np.frombuffer(header[4:], dtype=">u4")  # (N,) or (N, H, W)
            size = math.prod(shape.tolist())
            if size > MOST_BYTES:
                raise ValueError(f"not an IDX file of {dimensions} dimensions, by the {size:,} bytes that it announces")
            data = file.read(size + 1)  # to the end, where gzip compares the checksum; a bomb would go on
            if len(data) != size:
                raise ValueError("not a complete IDX file")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise unreadable(display(path), error, remedy) from None
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
