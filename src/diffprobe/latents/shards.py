"""The rows of a store's shards, read without zarr: a piece of a chunk at a time, each row to its own position.

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
from diffprobe.runtime.errors import UserError, refused_access
from diffprobe.runtime.system import will_read

CHUNK = 256  # rows per inner chunk
CHECKSUM = 4  # bytes
PIECE = 2**20  # bytes read at a time: still in the processor's cache for their checksum and for the copy
ABSENT = 2**64 - 1  # offset and length of a chunk that was never written
REMEDY = "verify and repair the store, or delete it, and run again"


@dataclass(frozen=True)
class ShardReader:
    """The shards of a split: `rows` rows of `row_bytes` in each view, `chunks` chunks of 256 in a file."""

    path: Path  # {split}/moments
    rows: int
    row_bytes: int
    chunks: int
    indices: dict[str, np.ndarray] = field(default_factory=dict, repr=False)  # those read so far, by file

    def chunk(self, view: int, chunk: int) -> np.ndarray:
        """All of a chunk, uint8 (n, row_bytes). Raises as `read`."""
        n = min(CHUNK, self.rows - chunk * CHUNK)
        rows = np.empty((n, self.row_bytes), np.uint8)
        self.read(view, chunk, rows, np.arange(n))
        return rows

    def locate(self, view: int, chunk: int) -> tuple[str, int]:
        """The shard that holds a chunk of a view, and the chunk's number in it. No Path: making one takes too long."""
        shard, number = divmod(chunk, self.chunks)
        return f"{self.path}/c/{view}/{shard}/0/0/0", number

    def read(
        self,
        view: int,
        chunk: int,
        rows: np.ndarray,
        positions: np.ndarray,
        check: bool = True,
        ahead: bool = False,
    ) -> None:
        """Copy the rows of a chunk of a view to `positions` int64 (n,) of `rows` uint8 (any, row_bytes); rows with
        position -1 are skipped. Safe in any thread.

        With `ahead` the kernel also reads on beyond the chunk. Raises UserError where the file or the
        chunk is not as it was written; with `check`, its checksum is compared.
        """
        path, number = self.locate(view, chunk)
        try:
            file = os.open(path, os.O_RDONLY)
            try:
                self.read_open(file, path, number, rows, positions, check, ahead)
            finally:
                os.close(file)
        except (OSError, ValueError) as error:
            start = chunk * CHUNK
            which = f"rows {start} to {min(start + CHUNK, self.rows) - 1}"
            raise refused_access(path, error) or UserError(
                f"{path}: {which} cannot be read whole ({error}); {REMEDY}"
            ) from None

    def read_open(
        self, file: int, path: str, number: int, rows: np.ndarray, positions: np.ndarray, check: bool, ahead: bool
    ) -> None:
        """The same from an open file; ValueError where it is damaged."""
        if path not in self.indices:
            self.indices[path] = read_index(file, self.chunks)
        offset, length = self.indices[path][number].tolist()
        if length != CHUNK * self.row_bytes + CHECKSUM:
            raise ValueError("the chunk is missing" if length == ABSENT else f"the chunk has {length} bytes")
        will_read(file, offset, length, ahead)
        # Rows go through one small buffer, not straight to their positions: 256 reads and checksums a chunk would take
        # twice as long. The last chunk of a view is padded to 256 rows, which have no positions.
        at_once, crc = min(CHUNK, max(1, PIECE // self.row_bytes)), 0
        buffer = np.empty(at_once * self.row_bytes + CHECKSUM, np.uint8)
        for first in range(0, CHUNK, at_once):
            targets = positions[first : first + at_once]
            size = min(at_once, CHUNK - first) * self.row_bytes
            checksum = CHECKSUM if first + at_once >= CHUNK else 0  # read along with the last piece
            read_exactly(file, buffer[: size + checksum], offset + first * self.row_bytes)
            if check:
                crc = google_crc32c.extend(crc, buffer[:size])
            scatter(rows, targets, buffer[: len(targets) * self.row_bytes].reshape(-1, self.row_bytes))
        if check and crc != int.from_bytes(buffer[size : size + CHECKSUM].tobytes(), "little"):
            raise ValueError("the checksum is wrong")


def read_index(file: int, chunks: int) -> np.ndarray:
    """Where each chunk of a shard is, uint64 (chunks, 2): offset and length. ValueError where the index is damaged."""
    raw = np.empty(16 * chunks + CHECKSUM, np.uint8)
    read_exactly(file, raw, max(0, os.fstat(file).st_size - len(raw)))
    index, checksum = raw[:-CHECKSUM], raw[-CHECKSUM:].tobytes()
    if google_crc32c.value(index) != int.from_bytes(checksum, "little"):
        raise ValueError("the index is damaged")
    return index.view("<u8").reshape(chunks, 2)


def read_exactly(file: int, buffer: np.ndarray, offset: int) -> None:
    """Fill the buffer, uint8 (n,), from `offset` on. ValueError where the file ends before."""
    view, filled = buffer.data, 0
    while filled < len(view):
        count = os.preadv(file, [view[filled:]], offset + filled)  # one call but for signals and odd file systems
        if not count:
            raise ValueError("the file is truncated")
        filled += count
