"""The rows of a store's shards, read past zarr: a chunk in one system call, each row to a place of its own.

zarr's own reader takes several times as long (docs/BENCHMARKS.md). A shard is, by zarr v3's `sharding_indexed` codec:
the inner chunks, each its bytes and their crc32c, then an index of (offset, length) per chunk and the index's crc32c.
All numbers are little-endian; a chunk that was never written has an offset and length of 2^64 - 1.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np

from diffprobe.runtime.errors import UserError

CHUNK = 256  # rows per inner chunk
CHECKSUM = 4  # bytes
PIECE = 2**19  # bytes read at a time: they are still in the processor's cache when their checksum is computed
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
        rows = np.empty((min(CHUNK, self.rows - chunk * CHUNK), self.row_bytes), np.uint8)
        self.read(view, chunk, list(rows))
        return rows

    def read(self, view: int, chunk: int, buffers: Sequence[np.ndarray]) -> None:
        """Chunk number `chunk` of a view into the buffers, uint8 of one length, which together take its rows.
        Safe in any thread.

        Raises UserError where the file, the chunk or its checksum is not as it was written.
        """
        shard, number = divmod(chunk, self.chunks)
        path = self.path / "c" / str(view) / str(shard) / "0" / "0" / "0"
        try:
            with path.open("rb", buffering=0) as file:
                self.read_open(file.fileno(), path, number, buffers)
        except (OSError, ValueError) as error:
            start = chunk * CHUNK
            rows = f"rows {start} to {min(start + CHUNK, self.rows) - 1}"
            raise UserError(f"{path}: {rows} cannot be read whole ({error}); {REMEDY}") from None

    def read_open(self, file: int, path: Path, number: int, buffers: Sequence[np.ndarray]) -> None:
        """The same from an open file; ValueError where it is damaged."""
        if path not in self.places:
            self.places[path] = read_index(file, self.chunks)
        offset, length = self.places[path][number].tolist()
        if length != CHUNK * self.row_bytes + CHECKSUM:
            raise ValueError("the chunk is missing" if length == 2**64 - 1 else f"the chunk has {length} bytes")
        rest = CHUNK * self.row_bytes - len(buffers) * len(buffers[0])  # rows beyond the last one
        checked = [*buffers, np.empty(rest, np.uint8)] if rest else buffers
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
        at_once, found = max(1, PIECE // len(buffers[0])), 0
        for first in range(0, len(checked), at_once):
            piece = checked[first : first + at_once]
            offset += read_exactly(file, piece, offset)
            for buffer in piece:
                found = google_crc32c.extend(found, buffer)
        read_exactly(file, [checksum := np.empty(CHECKSUM, np.uint8)], offset)
        if found != int.from_bytes(checksum.tobytes(), "little"):
            raise ValueError("the checksum is wrong")


def read_index(file: int, chunks: int) -> np.ndarray:
    """Where each chunk of a shard lies, uint64 (chunks, 2): offset and length. ValueError where it is damaged."""
    raw = np.empty(16 * chunks + CHECKSUM, np.uint8)
    read_exactly(file, [raw], max(0, os.fstat(file).st_size - len(raw)))
    index, checksum = raw[:-CHECKSUM], raw[-CHECKSUM:].tobytes()
    if google_crc32c.value(index) != int.from_bytes(checksum, "little"):
        raise ValueError("the index is damaged")
    return index.view("<u8").reshape(chunks, 2)


def read_exactly(file: int, buffers: Sequence[np.ndarray], offset: int) -> int:
    """Fill the buffers from `offset` on; how many bytes that were. ValueError where the file ends before."""
    wanted = sum(map(len, buffers))
    found = os.preadv(file, buffers, offset)  # all at once, as good as always
    while found < wanted:
        more = os.preadv(file, after(buffers, found), offset + found)
        if not more:
            raise ValueError("the file is cut short")
        found += more
    return wanted


def after(buffers: Sequence[np.ndarray], read: int) -> list[np.ndarray]:
    """What of the buffers is still to be filled once so many bytes are."""
    left = []
    for buffer in buffers:
        if read < len(buffer):
            left.append(buffer[read:])
        read = max(0, read - len(buffer))
    return left
