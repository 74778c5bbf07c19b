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
UNSIGNED_BYTES = 8  # the type's code
MOST_BYTES = 2**28  # of an array; the largest of MNIST has 47 MB


def find(source: Download, archives: Mapping[str, Path]) -> Listing:
    """The images of train, then those of test. Raises UserError where a file is damaged."""
    images = [read_idx(archives[f"{part}-images-idx3-ubyte.gz"], 3) for part in PARTS]
    labels = [read_idx(archives[f"{part}-labels-idx1-ubyte.gz"], 1) for part in PARTS]
    for part, pixels, ids in zip(PARTS, images, labels, strict=True):
        if len(pixels) != len(ids):
            raise UserError(
                f"MNIST {part}: {len(pixels)} images but {len(ids)} labels; delete its files and download them again"
            )
    official = np.repeat(list(PARTS.values()), [len(part) for part in images])
    return Listing(
        np.concatenate(labels).astype(np.int64),
        tuple(map(str, range(10))),
        official.astype(np.uint8),
        "MNIST idx files",
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
            shape = np.frombuffer(header[4:], dtype=">u4")  # (N,) or (N, H, W)
            size = math.prod(shape.tolist())
            if header[:4] != bytes([0, 0, UNSIGNED_BYTES, dimensions]) or len(shape) != dimensions or size > MOST_BYTES:
                raise ValueError(f"not an IDX file of {dimensions} dimensions")
            data = file.read(size + 1)  # to the end, where gzip compares the checksum; a bomb would go on
            if len(data) != size:
                raise ValueError("not a complete IDX file")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise unreadable(display(path), error, remedy) from None
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
