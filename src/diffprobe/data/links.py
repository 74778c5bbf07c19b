"""A store without pixels: where its images lie, and what makes pixels of them whenever they are read.

archive  uint16 (N,), an index into the attribute `archives` (JSON: paths of folders and zips)
names    uint8 (B,), the names inside the archives, one after the other; ends int64 (N,), where each ends
stamps   int64 (N, 2), size and time (ns) of a file, size and checksum of a zip's entry

attributes: shape (N, H, W, C); decoding (JSON: the rule's version, Pillow's, size, resize). A chunk's hash is over
its rows of all this but `archives`, so that a folder may be moved, but its files must not change.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import PIL

from diffprobe.data import convert, decode
from diffprobe.data.archives import Archives, Entry, Stamp, called
from diffprobe.data.listing import CHUNK, Files
from diffprobe.data.sources.names import raw
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import canonical

ARRAYS = ("names", "ends", "archive", "stamps")
WAITING = 16  # threads that ask for sizes and times: over a network nearly all of it is waiting
ASKED = 32  # files that such a thread asks for in one go
BLOCK = 4 * CHUNK  # rows that are given to the decoding threads at once
REMEDY = "put it back, or delete the store and run again"

Link = tuple[Entry, Stamp]


class Part(NamedTuple):
    """Files that follow one another, one per row."""

    archive: np.ndarray  # uint16 (n,)
    names: bytes  # one after the other
    ends: np.ndarray  # int64 (n,), where in `names` each ends
    stamps: np.ndarray  # int64 (n, 2)

    def hash(self, decoding: str) -> bytes:
        """A sha256 over all that their pixels follow from."""
        numbers = (array.tobytes() for array in (self.archive, self.ends, self.stamps))
        return hashlib.sha256(b"".join((decoding.encode(), b"\0", *numbers, self.names))).digest()

    def link(self, row: int) -> Link:
        name = self.names[self.ends[row - 1] if row else 0 : self.ends[row]]
        size, change = self.stamps[row].tolist()
        return (int(self.archive[row]), name.decode("utf-8", "surrogateescape")), (size, change)


def decoding_of(size: int | None, resize: str) -> str:
    """What makes the pixels, besides the files: another version of it might make others."""
    return canonical({"rule": convert.VERSION, "pillow": PIL.__version__, "size": size, "resize": resize})


def survey(files: Files, report: Callable[[int], object] = lambda done: None) -> np.ndarray:
    """The stamps of all files, int64 (N, 2); `report` hears how many. Raises UserError for one that is not there."""
    found = np.empty((len(files.entries), 2), np.int64)
    with Archives(files.archives) as archives, ThreadPoolExecutor(WAITING) as pool:
        for row, stamp in enumerate(stamps(archives, files.entries, pool)):
            if stamp is None:
                raise UserError(f"{called(files.archives, files.entries[row])} is gone; run again")
            found[row] = stamp
            if (row + 1) % CHUNK == 0:
                report(row + 1)
    report(len(found))
    return found


def stamps(archives: Archives, entries: Sequence[Entry], pool: ThreadPoolExecutor) -> Iterator[Stamp | None]:
    """The stamp of each file, asked for by several threads."""
    blocks = (entries[start : start + ASKED] for start in range(0, len(entries), ASKED))
    return chain.from_iterable(pool.map(lambda block: [archives.stamp(entry) for entry in block], blocks))


def write(file: h5py.File, shape: tuple[int, ...], files: Files, stamped: np.ndarray, decoding: str) -> None:
    """Add where the images lie, and the hash of each chunk, to a store that has none."""
    names = [raw(name) for _, name in files.entries]
    file.attrs["shape"] = np.array(shape, np.int64)
    file.attrs["archives"] = json.dumps([str(path.absolute()) for path in files.archives])
    file.attrs["decoding"] = decoding
    file["archive"] = np.array([index for index, _ in files.entries], np.uint16)
    file["names"] = np.frombuffer(b"".join(names), np.uint8)
    file["ends"] = np.cumsum([len(name) for name in names], dtype=np.int64)
    file["stamps"] = stamped


def hashes(file: h5py.File) -> list[bytes]:
    """Of each chunk, as it follows from the file."""
    decoding = file.attrs["decoding"]
    return [part_of(file, chunk).hash(decoding) for chunk in range(-(-len(file["ends"]) // CHUNK))]


def part_of(file: h5py.File, chunk: int) -> Part:
    """The files of a chunk's rows."""
    rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    begin = int(file["ends"][rows.start - 1]) if chunk else 0
    ends = file["ends"][rows]
    names = file["names"][begin : int(ends[-1])].tobytes()
    return Part(file["archive"][rows], names, ends - begin, file["stamps"][rows])


class Links:
    """The images of an open store without pixels, decoded by a few threads; any thread may read."""

    def __init__(self, file: h5py.File) -> None:
        self.name = file.filename
        self.file = h5py.File(file.id)  # not `file` itself, which holds this
        self.decoding: str = file.attrs["decoding"]
        rule = json.loads(self.decoding)
        archives = tuple(Path(path) for path in json.loads(file.attrs["archives"]))
        shape = tuple(file.attrs["shape"][1:].tolist())
        self.work = decode.Work(archives, Path(), shape, rule["size"], rule["resize"])
        self.archives = Archives(archives)
        self.pool = ThreadPoolExecutor(decode.THREADS)

    def close(self) -> None:
        self.pool.shutdown()
        self.archives.close()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The images of `rows`, int64 (M,), as uint8 (M, H, W, C).

        Raises UserError where a file is gone, has changed, or cannot be decoded, and where the pixels would be those
        of another version of the rule.
        """
        self.refuse_other_rule()
        found = np.empty((len(rows), *self.work.shape), np.uint8)
        for start in range(0, len(rows), BLOCK):
            images = self.pool.map(self.image, self.links(rows[start : start + BLOCK]))
            for row, image in enumerate(images, start):
                found[row] = image
        return found

    def links(self, rows: np.ndarray) -> list[Link]:
        parts = {chunk: self.part(chunk) for chunk in np.unique(rows // CHUNK).tolist()}
        return [parts[row // CHUNK].link(row % CHUNK) for row in rows.tolist()]

    def part(self, chunk: int) -> Part:
        """A chunk's files, as they were written. Raises UserError where they are not."""
        part = part_of(self.file, chunk)
        if part.hash(self.decoding) != self.file["hashes"][chunk].tobytes():
            rows = f"{chunk * CHUNK} to {chunk * CHUNK + len(part.ends) - 1}"
            raise UserError(f"{self.name}: file names of rows {rows} are damaged; delete the file and run again")
        return part

    def image(self, link: Link) -> np.ndarray:
        """One image, uint8 (H, W, C), of the file that the store was made of."""
        entry, stamp = link
        if trouble := self.trouble(link, self.archives.stamp(entry)):
            raise UserError(trouble)
        data = self.archives.read(entry)
        if len(data) != stamp[0]:  # it is being written
            raise UserError(self.trouble(link, (len(data), 0)))
        return decode.image(entry, self.work, lambda _: data)

    def trouble(self, link: Link, now: Stamp | None) -> str | None:
        """The line about a file that is not what it was."""
        if now == link[1]:
            return None
        what = "is gone" if now is None else "has changed"
        return f"{called(self.work.archives, link[0])} {what} since {self.name} was made; {REMEDY}"

    def damage(self) -> Iterator[str]:
        """A line for each chunk that is damaged, or of which a file is gone or has changed; none is decoded."""
        with ThreadPoolExecutor(WAITING) as pool:
            for chunk in range(len(self.file["hashes"])):
                try:
                    part = self.part(chunk)
                except UserError as error:
                    yield str(error)
                else:
                    yield from self.changed([part.link(row) for row in range(len(part.ends))], pool)

    def changed(self, links: list[Link], pool: ThreadPoolExecutor) -> Iterator[str]:
        """A line, if any of these files is gone or has changed."""
        now = stamps(self.archives, [entry for entry, _ in links], pool)
        found = [line for link, stamp in zip(links, now, strict=True) if (line := self.trouble(link, stamp))]
        if found:
            yield found[0] if len(found) == 1 else f"{found[0]} (and {len(found) - 1} more of its chunk)"

    def refuse_other_rule(self) -> None:
        if self.decoding != decoding_of(self.work.size, self.work.resize):
            made = json.loads(self.decoding)
            raise UserError(
                f"{self.name}: made for Pillow {made['pillow']} and version {made['rule']} of the rule of decoding, "
                f"not {PIL.__version__} and {convert.VERSION}; install that Pillow, or delete the store and run again"
            )
