"""Decodes image files into the chunks of a store, in several processes, resuming what a killed run left.

No pixel passes through a pipe: every chunk has its place in the file already, so a process decodes a chunk and writes
it there itself. Finished chunks are recorded in a journal. On resuming, a recorded chunk is kept if its source files
have the same sizes and times, and its bytes on disk the same hash.
"""

import errno
import hashlib
import json
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprobe.data.archives import Archives, entry_name
from diffprobe.data.convert import pixels
from diffprobe.data.listing import Entry, Files
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import digest
from diffprobe.runtime.system import usable_cores
from diffprobe.runtime.workers import end_with_parent

BLOCK = 1 << 24  # bytes read at once to hash a chunk on disk
THREADS = min(8, usable_cores())  # that decode in one process: decoders release the GIL


class Chunk(NamedTuple):
    """Consecutive images of a store."""

    number: int
    offset: int  # of the first byte in the file
    entries: list[Entry]


class Record(NamedTuple):
    """A finished chunk, as a line of the journal."""

    number: int
    stamp: str  # of the source files
    sha256: str  # of the pixels
    images: int


class Target(NamedTuple):
    """What the chunks are decoded from and to."""

    archives: tuple[Path, ...]
    path: Path  # the file that the pixels are written to
    shape: tuple[int, int, int]  # (H, W, C) of every image
    size: int | None
    resize: str


Task = tuple[Chunk, Record | None]  # a chunk, and its record of an earlier run


def decode_chunks(
    chunks: Iterable[Chunk], target: Target, journal: Path, workers: int, report: Callable[[int], object]
) -> list[Record]:
    """Decode every chunk into its place; their records, in order.

    `report` is called with the number of finished images, those of earlier runs included. Raises UserError for an image
    that cannot be decoded; the chunks finished by then stay in the journal.
    """
    earlier = read_journal(journal)
    tasks = [(chunk, earlier.get(chunk.number)) for chunk in chunks]
    parallel = min(workers, len(tasks)) > 1
    records: dict[int, Record] = {}
    images = 0
    with journal.open("a", buffering=1) as lines:
        lines.write("\n")  # a kill may have left half a line
        for record in run_parallel(tasks, target, workers) if parallel else run_serial(tasks, target):
            records[record.number] = record
            if record != earlier.get(record.number):
                lines.write(f"{json.dumps(record)}\n")
            images += record.images
            report(images)
    return [records[number] for number in sorted(records)]


def read_journal(journal: Path) -> dict[int, Record]:
    """The last record of each chunk; incomplete lines are skipped."""
    records: dict[int, Record] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        with suppress(ValueError, TypeError):
            record = Record(*json.loads(line))
            records[record.number] = record
    return records


def run_serial(tasks: list[Task], target: Target) -> Iterator[Record]:
    """Decode the chunks one after another in this process."""
    with Worker.open(target) as worker:
        for chunk, earlier in tasks:
            yield worker.decode(chunk, earlier)


def run_parallel(tasks: list[Task], target: Target, workers: int) -> Iterator[Record]:
    """Decode the chunks in `workers` processes; records come as they are finished."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of HDF5 and torch
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker, (target,)) as pool:
        futures = [pool.submit(_decode, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            remedy = "finished chunks are kept: run again, with fewer cores if memory was short"
            raise UserError(f"{target.path}: a decoding process was killed; {remedy}") from None
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, only chunks in progress are finished


class Worker(NamedTuple):
    """The open files of one process."""

    target: Target
    archives: Archives
    file: int  # descriptor of the target's file

    @classmethod
    @contextmanager
    def open(cls, target: Target) -> "Iterator[Worker]":
        file = os.open(target.path, os.O_RDWR)
        try:
            with Archives(target.archives) as archives:
                yield cls(target, archives, file)
        finally:
            os.close(file)

    def decode(self, chunk: Chunk, earlier: Record | None) -> Record:
        """Decode one chunk into its place, unless its record of an earlier run still holds."""
        stamp, count = files_stamp(self.target.archives, chunk.entries), len(chunk.entries)
        if earlier is not None and earlier == Record(chunk.number, stamp, earlier.sha256, count):
            length = count * int(np.prod(self.target.shape))
            if earlier.sha256 == hash_range(self.file, chunk.offset, length):
                return earlier
        offset, hashed = chunk.offset, hashlib.sha256()
        for entry in chunk.entries:
            data = np.ascontiguousarray(decode_image(entry, self.target, self.archives.read)).data  # (H, W, C)
            hashed.update(data)
            if os.pwrite(self.file, data, offset) != data.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            offset += data.nbytes
        return Record(chunk.number, stamp, hashed.hexdigest(), count)


_stack = ExitStack()  # keeps a worker process's files open from chunk to chunk
_workers: list[Worker] = []  # of this process, one


def _start_worker(target: Target) -> None:
    end_with_parent()  # an orphan would write into the file of the next run
    warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF and the like, which does not matter here
    _workers.append(_stack.enter_context(Worker.open(target)))


def _decode(chunk: Chunk, earlier: Record | None) -> Record:
    return _workers[0].decode(chunk, earlier)


def decode_image(entry: Entry, target: Target, read: Callable[[Entry], bytes]) -> np.ndarray:
    """One image, uint8 (H, W, C). Raises UserError where it cannot be read or has another shape."""
    name = entry_name(target.archives, entry)
    image = pixels(read(entry), name, target.size, target.shape[2], target.resize)
    if image.shape != target.shape:
        height, width = image.shape[:2]
        expected = f"{target.shape[1]} x {target.shape[0]}"
        raise UserError(f"{name} is {width} x {height}, but the first image is {expected}; set `size`")
    return image


def first_shape(files: Files, size: int | None, channels: int, resize: str) -> tuple[int, int, int]:
    """(H, W, C) of the first image, which all others must have too."""
    with Archives(files.archives) as archives:
        entry = files.entries[0]
        image = pixels(archives.read(entry), entry_name(files.archives, entry), size, channels, resize)
    height, width, _ = image.shape
    return height, width, channels


def files_stamp(archives: tuple[Path, ...], entries: Iterable[Entry]) -> str:
    """A digest of the entries, and of the sizes and times of the files they lie in."""
    paths = dict.fromkeys(archives[i] if archives[i].is_file() else archives[i] / name for i, name in entries)
    statuses = [path.stat() if path.exists() else None for path in paths]
    return digest([list(entries), [status and (status.st_size, status.st_mtime_ns) for status in statuses]])


def hash_range(file: int, offset: int, length: int) -> str:
    """sha256 of `length` bytes of an open file."""
    hashed = hashlib.sha256()
    for start in range(0, length, BLOCK):
        hashed.update(os.pread(file, min(BLOCK, length - start), offset + start))
    return hashed.hexdigest()
