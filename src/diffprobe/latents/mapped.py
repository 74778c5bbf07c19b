"""Rows from mapped shards, for stores that the kernel's page cache can hold.

The first read of a chunk is `ShardReader`'s: it compares the checksum and brings the chunk into the page cache. Later
reads copy rows from the mapped file to their positions, once and without a checksum. A chunk that the kernel has
dropped in between is read and compared again: through the mapping it would come by page faults, a few pages at a time.
So a store that turns out too large for the page cache is read as fast as one that is not mapped.
"""

import errno
import os
from pathlib import Path

import numpy as np
import torch

from diffprobe.data.rows import scatter
from diffprobe.latents.shards import CHUNK, ShardReader
from diffprobe.runtime.manifests import ROOT
from diffprobe.runtime.memory import available_memory

SHARE = 0.75  # of the available memory; the rest is for what training allocates later
PROBES = 4  # pages of a chunk that are looked for in the page cache


class MappedReader:
    """Reads as the `ShardReader` that it is made from. `check`: whether checksums are compared at the first read."""

    def __init__(self, reader: ShardReader, check: bool = True) -> None:
        self.reader, self.check = reader, check
        self.maps: dict[str, np.ndarray] = {}  # uint8, by file
        self.seen: set[tuple[int, int]] = set()  # the views and chunks that were read before

    def read(self, view: int, chunk: int, rows: np.ndarray, positions: np.ndarray) -> None:
        """As `ShardReader.read`, safe in any thread. Raises UserError as that does."""
        source = self.cached(view, chunk) if (view, chunk) in self.seen else None
        if source is None:
            # Ahead: into larger pages, which all will be used.
            self.reader.read(view, chunk, rows, positions, self.check, True)
            self.seen.add((view, chunk))
        else:
            scatter(rows, positions, source[: len(positions)])  # the last chunk of a view is padded

    def cached(self, view: int, chunk: int) -> np.ndarray | None:
        """A chunk that was read before, uint8 (256, row_bytes) in the mapped file; None where it is not in memory."""
        path, number = self.reader.locate(view, chunk)
        offset, size = int(self.reader.indices[path][number, 0]), CHUNK * self.reader.row_bytes
        try:
            file = os.open(path, os.O_RDONLY)
            try:
                if not in_page_cache(file, offset, size):
                    return None
                if path not in self.maps:
                    self.maps[path] = map_file(path, os.fstat(file).st_size)
            finally:
                os.close(file)
        except (OSError, RuntimeError):  # of torch, where the system maps no more; `read` names what is wrong
            return None
        return self.maps[path][offset : offset + size].reshape(CHUNK, -1)


def fits_in_page_cache(store: Path, size: int) -> bool:
    """Whether the page cache can hold a store of `size` bytes, and its file system says what is in the cache.

    Local file systems do. NFS, for one, does not: a file that changes there while it is mapped would kill the process.
    """
    try:
        file = os.open(store / ROOT, os.O_RDONLY)
        try:
            in_page_cache(file, 0, 1)
        finally:
            os.close(file)
    except OSError:
        return False
    return size <= SHARE * available_memory()


def in_page_cache(file: int, offset: int, size: int) -> bool:
    """Whether a range of an open file is in memory, by a few of its pages. OSError where the system cannot say."""
    if not hasattr(os, "RWF_NOWAIT"):
        raise OSError(errno.EOPNOTSUPP, "no reads without waiting")
    byte = bytearray(1)
    try:
        # One byte of each page, read only if that needs no disk. At the end of a truncated file nothing is read.
        return all(
            os.preadv(file, [byte], offset + (size - 1) * probe // (PROBES - 1), os.RWF_NOWAIT)
            for probe in range(PROBES)
        )
    except BlockingIOError:
        return False


def map_file(path: str, size: int) -> np.ndarray:
    """A file mapped into memory, uint8. By torch, whose mappings keep no file open: a store may have thousands."""
    mapped = torch.from_file(path, shared=False, size=size, dtype=torch.uint8).numpy()
    mapped.flags.writeable = False
    return mapped
