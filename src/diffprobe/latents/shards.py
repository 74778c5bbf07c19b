"""The rows of a store's shards, read past zarr: a piece of a chunk at a time, each row to a place of its own.

zarr's own reader takes several times as long (docs/BENCHMARKS.md). A shard is, by zarr v3's `sharding_indexed` codec:
the inner chunks, each its bytes and their crc32c, then an index of (offset, length) per chunk and the index's crc32c.
All numbers are little-endian; a chunk that was never written has an offset and length of 2^64 - 1.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np

from diffprobe.data.rows import scatter
from diffprobe.runtime.errors import UserError

CHUNK = 256  # rows per inner chunk
CHECKSUM = 4  # bytes
PIECE = 2**20  # bytes read at a time: still in the processor's cache for their checksum and the copy to their places
REMEDY = "verify and repair the store, or delete it, and run again"


@dataclass(frozen=True)
class Shards:
    """The shards of a split: `rows` rows of `row_bytes` in each view, `chunks` chunks of 256 in a file."""

    path: Path  # {split}/moments
    rows: int
    row_bytes: int
    chunks: int
    places: dict[Path, np.ndarray] = field(default_factory=dict, repr=False)  # what indices said, by file

    def chunk(self, view: int, chunk: int) -> np.ndarray:
        """All of a chunk, uint8 (n, row_bytes). Raises as `read`."""
        n = min(CHUNK, self.rows - chunk * CHUNK)
        rows = np.empty((n, self.row_bytes), np.uint8)
        self.read(view, chunk, rows, np.arange(n))
        return rows

    def read(self, view: int, chunk: int, rows: np.ndarray, places: np.ndarray) -> None:
        """Chunk number `chunk` of a view: each of its rows to its place of `rows`, uint8 (any, row_bytes); a row whose
        place is -1 to none. Safe in any thread.

        Raises UserError where the file, the chunk or its checksum is not as it was written.
        """
        shard, number = divmod(chunk, self.chunks)
        path = self.path / "c" / str(view) / str(shard) / "0" / "0" / "0"
        try:
            file = os.open(path, os.O_RDONLY)
            try:
                self.read_open(file, path, number, rows, places)
            finally:
                os.close(file)
        except (OSError, ValueError) as error:
            start = chunk * CHUNK
            which = f"rows {start} to {min(start + CHUNK, self.rows) - 1}"
            raise UserError(f"{path}: {which} cannot be read whole ({error}); {REMEDY}") from None

    def read_open(self, file: int, path: Path, number: int, rows: np.ndarray, places: np.ndarray) -> None:
        """The same from an open file; ValueError where it is damaged."""
        if path not in self.places:
            self.places[path] = read_index(file, self.chunks)
        offset, length = self.places[path][number].tolist()
        if length != CHUNK * self.row_bytes + CHECKSUM:
            raise ValueError("the chunk is missing" if length == 2**64 - 1 else f"the chunk has {length} bytes")
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
        at_once, found = min(CHUNK, max(1, PIECE // self.row_bytes)), 0
        block = np.empty(at_once * self.row_bytes + CHECKSUM, np.uint8)
        for first in range(0, CHUNK, at_once):
            here = places[first : first + at_once]  # beyond the last row there are none
            size = min(at_once, CHUNK - first) * self.row_bytes
            checksum = CHECKSUM if first + at_once >= CHUNK else 0
            read_exactly(file, block[: size + checksum], offset + first * self.row_bytes)
            found = google_crc32c.extend(found, block[:size])
            scatter(rows, here, block[: len(here) * self.row_bytes].reshape(-1, self.row_bytes))
        if found != int.from_bytes(block[size : size + CHECKSUM].tobytes(), "little"):
            raise ValueError("the checksum is wrong")


def read_index(file: int, chunks: int) -> np.ndarray:
    """Where each chunk of a shard lies, uint64 (chunks, 2): offset and length. ValueError where it is damaged."""
    raw = np.empty(16 * chunks + CHECKSUM, np.uint8)
    read_exactly(file, raw, max(0, os.fstat(file).st_size - len(raw)))
    index, checksum = raw[:-CHECKSUM], raw[-CHECKSUM:].tobytes()
    if google_crc32c.value(index) != int.from_bytes(checksum, "little"):
        raise ValueError("the index is damaged")
    return index.view("<u8").reshape(chunks, 2)


def read_exactly(file: int, buffer: np.ndarray, offset: int) -> None:
    """Fill the buffer, uint8 (n,), from `offset` on. ValueError where the file ends before."""
    found = os.preadv(file, [buffer], offset)  # all at once, as good as always
    while found < len(buffer):
        more = os.preadv(file, [buffer[found:]], offset + found)
        if not more:
            raise ValueError("the file is cut short")
        found += more
