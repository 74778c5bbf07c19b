"""Arrays in .npy files, on disk or in an .npz; those of images are read by rows without loading all of them."""

import math
import os
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from threading import Lock
from tokenize import TokenError
from typing import IO, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy

from diffprobe.data.filenames import display
from diffprobe.runtime.errors import UserError, access_error, one_line

KEY = "arr_0.npy"  # the member of an .npz with the images, as in ADM's evaluation suite
MOST_VALUES = 2**30  # of one image, 18,900 x 18,900 in colour; a header that says more is not believed
BLOCK = 2**22  # bytes
AGAIN = "download or create it again"
# numpy parses headers as Python's syntax, of which CPython before 3.11.8 and 3.12.2 fails in several threads at once
# (gh-106905: SystemError, where the garbage collector hands over to another thread).
PARSER = Lock()


class ArrayHeader(NamedTuple):
    """What an .npy says of its array."""

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes] | BufferedIOBase) -> ArrayHeader:
    """The header of an .npy, leaving the stream at its data. Raises ValueError for other files."""
    read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
    damaged = ValueError("its header is damaged, or not one of numpy's")
    try:
        with PARSER:
            header = ArrayHeader(*read(stream))
    except (ValueError, TypeError, RecursionError, MemoryError, TokenError):  # in words of Python's parser
        raise damaged from None
    if not all(type(size) is int and 0 <= size < 2**63 for size in header.shape):  # numpy takes True for a size
        raise damaged
    return header


def read_array(path: Path, mapped: bool = False) -> np.ndarray:
    """The array of an .npy file, memory-mapped and read-only if `mapped`. Raises ValueError for other files, and where
    the length is not that of the header.
    """
    with path.open("rb") as stream:
        header = read_header(stream)
        start, length = stream.tell(), os.fstat(stream.fileno()).st_size
        if header.dtype.hasobject or not header.dtype.itemsize:  # pickles can run code
            raise ValueError(f"it holds {'Python objects' if header.dtype.hasobject else header.dtype}, not numbers")
        if length != start + header.bytes:
            raise ValueError(f"it has {length} bytes, but by its header {start + header.bytes}")
        order: Literal["F", "C"] = "F" if header.column_major else "C"
        if mapped and header.bytes:  # nothing cannot be mapped
            return np.memmap(stream, header.dtype, "r", start, header.shape, order)
        return np.fromfile(stream, header.dtype, math.prod(header.shape)).reshape(header.shape, order=order)


def npz_keys(path: Path) -> list[str]:
    """The names of the arrays in an .npz; none where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception:  # zipfile raises a dozen kinds of errors for a damaged archive
        return []


def is_statistics(path: Path) -> bool:
    """Whether a file holds a mean and a covariance of features, as pytorch-fid keeps them."""
    return path.suffix.lower() == ".npz" and "mu" in npz_keys(path)


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an .npz. Raises ValueError where its length is not that of its header; zipfile raises more."""
    with archive.open(name) as stream:
        header = read_header(stream)
        if (length := archive.getinfo(name).file_size) != stream.tell() + header.bytes:  # before memory is allocated
            raise ValueError(f"{name} has {length} bytes, but by its header {stream.tell() + header.bytes}")
        values = stream.read()  # to the end, where zipfile compares the checksum
    return np.ndarray(header.shape, header.dtype, values, order="F" if header.column_major else "C")


def open_npy(path: Path) -> "NpyReader":
    """An .npy, or the arr_0 of an .npz. Raises UserError where it is damaged or does not hold images."""
    with readable(path):
        return NpyReader(path)


class NpyReader:
    """The images of an array by rows."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, Lock()
        self.stream, length = open_stream(path)
        weakref.finalize(self, self.stream.close)  # an image set has no `close` of its own
        self.shape = read_shape(path, self.stream)  # (N, H, W, C)
        self.offset = self.stream.tell()
        # Checked on opening, since a truncated file would otherwise fail only at its last rows.
        if length != self.offset + math.prod(self.shape):
            raise ValueError(f"it has {length} bytes, but by its header {self.offset + math.prod(self.shape)}")

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, H, W, C). In a zip, seeking back starts over, and the CRC is checked at the last row."""
        images = np.empty((stop - start, *self.shape[1:]), np.uint8)
        with self.lock, readable(self.path):  # two readers share one stream and its position
            self.stream.seek(self.offset + start * math.prod(self.shape[1:]))
            if self.stream.readinto(images.reshape(-1).data) != images.size:  # uint8: bytes are elements
                raise EOFError("it ends too early")
        return images

    def verify(self) -> None:
        """Compare the images in an .npz with their checksum, which reading by rows in any order does not."""
        if isinstance(self.stream, zipfile.ZipExtFile):
            with readable(self.path), zipfile.ZipFile(self.path) as archive, archive.open(KEY) as stream:
                while stream.read(BLOCK):
                    pass


def open_stream(path: Path) -> tuple[BufferedIOBase, int]:
    """An .npy as a binary stream, and its length in bytes."""
    if path.suffix.lower() == ".npy":
        return path.open("rb"), path.stat().st_size
    archive = zipfile.ZipFile(path)
    if KEY not in archive.namelist():
        has = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:9]) or "nothing"
        raise UserError(f"{display(path)}: holds no arr_0 (it has {display(has)}); save the images as arr_0")
    stream = archive.open(KEY)
    assert isinstance(stream, BufferedIOBase)
    return stream, archive.getinfo(KEY).file_size


def read_shape(path: Path, stream: BufferedIOBase) -> tuple[int, int, int, int]:
    """(N, H, W, C) from an .npy's header, leaving the stream at the data. Raises UserError unless it holds images."""
    shape, column_major, dtype = read_header(stream)
    # Column-major arrays would have to be read whole for any row.
    if dtype != np.uint8 or len(shape) not in (3, 4) or column_major or 0 in shape:
        what = f"{dtype} {shape}{' in Fortran order' if column_major else ''}"
        raise UserError(f"{display(path)}: holds {what}; images are uint8 (N, H, W, C) or (N, H, W), in C order")
    n, h, w, c = (*shape, 1) if len(shape) == 3 else shape  # grey images may lack the channel
    if h * w * c > MOST_VALUES:
        raise UserError(f"{display(path)}: declares images of {h} x {w} x {c}; {AGAIN}, of smaller images")
    return n, h, w, c


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what numpy and zipfile raise for a damaged file into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds of errors for a damaged file
        raise access_error(display(path), error) or UserError(
            f"{display(path)}: damaged or incomplete ({one_line(error)}); {AGAIN}"
        ) from None
