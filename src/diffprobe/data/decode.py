"""Image files into the chunks of a store, by several processes at once, and on from where a killed run was.

No pixel goes through a pipe: every chunk has its place in the file already, so a process decodes a chunk and writes
it there itself. What is done is kept in a journal; a chunk of the journal stands if its source files still have
their sizes and times, and its bytes on disk still have their hash.
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
from typing import Any, NamedTuple

import numpy as np

from diffprobe.data.archives import Archives, Entry, called
from diffprobe.data.convert import pixels
from diffprobe.data.listing import Files
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import digest
from diffprobe.runtime.workers import end_with_parent

PIECE = 1 << 24  # bytes read at once where a chunk is hashed anew
THREADS = min(8, len(os.sched_getaffinity(0)))  # that decode in one process: decoders let go of the interpreter

Read = Callable[[Entry], bytes]


class Chunk(NamedTuple):
    """Images that follow one another in the store."""

    index: int
    offset: int  # of the first byte in the file
    entries: list[Entry]


class Done(NamedTuple):
    """A chunk that is in its place, as the journal has it."""

    index: int
    stamp: str  # of the source files
    sha256: str  # of the pixels
    images: int


class Work(NamedTuple):
    """What holds for all chunks."""

    archives: tuple[Path, ...]
    target: Path  # the file that the pixels go to
    shape: tuple[int, int, int]  # (H, W, C) of every image
    size: int | None
    resize: str


Outcome = tuple[Chunk, Done | None]  # a chunk, and what the journal says of it


def decode(
    chunks: Iterable[Chunk], work: Work, journal: Path, workers: int, report: Callable[[int], object]
) -> list[Done]:
    """Bring every chunk to its place in `work.target`; what was done, by index.

    `report` hears how many images are there, those of a killed run included. Raises UserError for an image that
    cannot be decoded; the chunks finished until then stay in the journal.
    """
    before = recall(journal)
    tasks = [(chunk, before.get(chunk.index)) for chunk in chunks]
    results = together(tasks, work, workers) if min(workers, len(tasks)) > 1 else alone(tasks, work)
    found: dict[int, Done] = {}
    images = 0
    with journal.open("a", buffering=1) as lines:
        lines.write("\n")  # a kill may have torn the last line
        for done in results:
            found[done.index] = done
            if done != before.get(done.index):
                lines.write(f"{json.dumps(done)}\n")
            images += done.images
            report(images)
    return [found[index] for index in sorted(found)]


def recall(journal: Path) -> dict[int, Done]:
    """The last word of a journal on each chunk; torn lines say nothing."""
    found: dict[int, Done] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        with suppress(ValueError, TypeError):
            done = Done(*json.loads(line))
            found[done.index] = done
    return found


def alone(tasks: list[Outcome], work: Work) -> Iterator[Done]:
    """The tasks, one after the other, in this process."""
    with at_work(work) as (read, file):
        for chunk, before in tasks:
            yield fill(chunk, before, work, read, file)


def together(tasks: list[Outcome], work: Work, workers: int) -> Iterator[Done]:
    """The tasks, as they are finished by `workers` processes."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), context, initializer=_enter, initargs=(work,)) as pool:
        futures = [pool.submit(_fill, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            remedy = "finished chunks are kept: run again, with fewer cores if memory was short"
            raise UserError(f"{work.target}: a decoding process was killed; {remedy}") from None
        finally:
            pool.shutdown(cancel_futures=True)


_open = ExitStack()  # what a worker process keeps open from chunk to chunk
_process: dict[str, Any] = {}


def _enter(work: Work) -> None:
    end_with_parent()  # or it would write into the file of the next run
    warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF and the like, to nobody who could act on it
    read, file = _open.enter_context(at_work(work))
    _process.update(work=work, read=read, file=file)


def _fill(chunk: Chunk, before: Done | None) -> Done:
    return fill(chunk, before, **_process)


@contextmanager
def at_work(work: Work) -> Iterator[tuple[Read, int]]:
    """The reader of the sources and the descriptor of the target."""
    file = os.open(work.target, os.O_RDWR)
    try:
        with Archives(work.archives) as archives:
            yield archives.read, file
    finally:
        os.close(file)


def fill(chunk: Chunk, before: Done | None, work: Work, read: Read, file: int) -> Done:
    """Decode one chunk into its place, unless what was done before still stands."""
    mark, count = stamp(work.archives, chunk.entries), len(chunk.entries)
    if before is not None and before == Done(chunk.index, mark, before.sha256, count):
        length = count * int(np.prod(work.shape))
        if before.sha256 == hash_range(file, chunk.offset, length):
            return before
    offset, hashed = chunk.offset, hashlib.sha256()
    for entry in chunk.entries:
        data = np.ascontiguousarray(image(entry, work, read))  # (H, W, C)
        hashed.update(data)
        if os.pwrite(file, data, offset) != data.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        offset += data.nbytes
    return Done(chunk.index, mark, hashed.hexdigest(), count)


def image(entry: Entry, work: Work, read: Read) -> np.ndarray:
    """One image, uint8 (H, W, C). Raises UserError where it cannot be had or has another shape."""
    name = called(work.archives, entry)
    found = pixels(read(entry), name, work.size, work.shape[2], work.resize)
    if found.shape != work.shape:
        height, width = found.shape[:2]
        raise UserError(f"{name} is {width} x {height}, the first image {work.shape[1]} x {work.shape[0]}; set `size`")
    return found


def first(files: Files, size: int | None, channels: int, resize: str) -> np.ndarray:
    """The first image, uint8 (H, W, C); all others are to have its shape."""
    with Archives(files.archives) as archives:
        entry = files.entries[0]
        return pixels(archives.read(entry), called(files.archives, entry), size, channels, resize)


def stamp(archives: tuple[Path, ...], entries: Iterable[Entry]) -> str:
    """A digest of names, sizes and times of the files that the entries are in."""
    paths = dict.fromkeys(archives[i] if archives[i].is_file() else archives[i] / name for i, name in entries)
    facts = [path.stat() if path.exists() else None for path in paths]
    return digest([list(entries), [fact and (fact.st_size, fact.st_mtime_ns) for fact in facts]])


def hash_range(file: int, offset: int, length: int) -> str:
    """sha256 of `length` bytes of an open file."""
    hashed = hashlib.sha256()
    for start in range(0, length, PIECE):
        hashed.update(os.pread(file, min(PIECE, length - start), offset + start))
    return hashed.hexdigest()
