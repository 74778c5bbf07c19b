"""A store without pixels: where its image files lie, to decode them on every read.

archive  uint16 (N,), an index into the attribute `archives` (JSON: paths of folders and zips)
names    uint8 (B,), the names inside the archives, concatenated; ends int64 (N,), where each ends
stamps   int64 (N, 2), size and time (ns) of a file, size and checksum of a zip's entry

attributes: shape (N, H, W, C); decoding (JSON: the rule's version, Pillow's, size, resize). A chunk's hash covers its
rows of all this but not `archives`: a folder may be moved, but its files must not change.
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
from diffprobe.data.archives import Archives, Stamp, entry_name
from diffprobe.data.filenames import name_bytes
from diffprobe.data.image_header import LinkHeader
from diffprobe.data.listing import CHUNK, Entry, Files
from diffprobe.runtime.errors import AccessError, UserError, unreadable
from diffprobe.runtime.files import canonical

ARRAYS = ("names", "ends", "archive", "stamps")
STAT_THREADS = 16  # that read sizes and times: on a network file system nearly all of it is latency
STAT_BLOCK = 32  # files per task of such a thread
DECODE_BLOCK = 4 * CHUNK  # rows queued for the decoding threads at once
REMEDY = "restore it, or delete the store and run again"
DAMAGED = "delete the file and run again"

Link = tuple[Entry, Stamp]


class LinkChunk(NamedTuple):
    """The files of the consecutive rows of one chunk."""

    archive: np.ndarray  # uint16 (n,)
    names: bytes  # concatenated
    ends: np.ndarray  # int64 (n,), where in `names` each ends
    stamps: np.ndarray  # int64 (n, 2)

    def hash(self, decoding: str) -> bytes:
        """A sha256 over everything that determines their pixels."""
        arrays = (array.tobytes() for array in (self.archive, self.ends, self.stamps))
        return hashlib.sha256(b"".join((decoding.encode(), b"\0", *arrays, self.names))).digest()

    def link(self, row: int) -> Link:
        name = self.names[self.ends[row - 1] if row else 0 : self.ends[row]]
        size, change = self.stamps[row].tolist()
        return (int(self.archive[row]), name.decode("utf-8", "surrogateescape")), (size, change)


def decoding_of(size: int | None, resize: str) -> str:
    """What the pixels depend on besides the files: another version of either library may decode differently."""
    return canonical({"rule": convert.VERSION, "pillow": PIL.__version__, "size": size, "resize": resize})


def survey(files: Files, report: Callable[[int], object] = lambda done: None) -> np.ndarray:
    """The stamps of all files, int64 (N, 2); `report` gets the number done. Raises UserError if one is missing."""
    surveyed = np.empty((len(files.entries), 2), np.int64)
    # The stamp of every file is taken once here and compared on every read.
    with Archives(files.archives) as archives, ThreadPoolExecutor(STAT_THREADS) as pool:
        for row, stamp in enumerate(stamps(archives, files.entries, pool)):
            if stamp is None:
                raise UserError(f"{entry_name(files.archives, files.entries[row])} is gone; run again")
            surveyed[row] = stamp
            if (row + 1) % CHUNK == 0:
                report(row + 1)
    report(len(surveyed))
    return surveyed


def stamps(archives: Archives, entries: Sequence[Entry], pool: ThreadPoolExecutor) -> Iterator[Stamp | None]:
    """The stamp of each file, None where it is missing."""
    blocks = (entries[start : start + STAT_BLOCK] for start in range(0, len(entries), STAT_BLOCK))
    return chain.from_iterable(pool.map(lambda block: [archives.stamp(entry) for entry in block], blocks))


def write(file: h5py.File, shape: tuple[int, ...], files: Files, stamps: np.ndarray, decoding: str) -> None:
    """Write the arrays and attributes described above, in place of pixels."""
    names = [name_bytes(name) for _, name in files.entries]
    file.attrs["shape"] = np.array(shape, np.int64)
    file.attrs["archives"] = json.dumps([str(path.absolute()) for path in files.archives])
    file.attrs["decoding"] = decoding
    file["archive"] = np.array([index for index, _ in files.entries], np.uint16)
    file["names"] = np.frombuffer(b"".join(names), np.uint8)
    file["ends"] = np.cumsum([len(name) for name in names], dtype=np.int64)
    file["stamps"] = stamps


def chunk_hashes(file: h5py.File) -> list[bytes]:
    """The hash of each chunk, computed from the arrays."""
    decoding = file.attrs["decoding"]
    return [read_chunk(file, chunk).hash(decoding) for chunk in range(-(-len(file["ends"]) // CHUNK))]


def read_chunk(file: h5py.File, chunk: int) -> LinkChunk:
    rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    # Ends count from the first name of the store; a chunk's count from its own.
    begin = int(file["ends"][rows.start - 1]) if chunk else 0
    ends = file["ends"][rows]
    names = file["names"][begin : int(ends[-1])].tobytes()
    return LinkChunk(file["archive"][rows], names, ends - begin, file["stamps"][rows])


class LinkedImages:
    """The images of an open store without pixels, decoded by a few threads. Thread-safe."""

    def __init__(self, file: h5py.File, header: LinkHeader, shape: tuple[int, int, int, int]) -> None:
        self.name = file.filename
        self.file = h5py.File(file.id)  # a second object for the same file, since `file` itself refers to this one
        self.header, self.rows = header, shape[0]
        self.target = decode.Target(header.archives, Path(), shape[1:], header.size, header.resize)
        self.archives = Archives(header.archives)
        self.pool = ThreadPoolExecutor(decode.THREADS)  # decoders release the GIL

    def close(self) -> None:
        self.pool.shutdown()
        self.archives.close()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The images of `rows`, int64 (M,), as uint8 (M, H, W, C).

        Raises UserError where a file is missing, has changed or cannot be decoded, and where this installation would
        decode it differently.
        """
        self.refuse_other_decoding()  # here and not on opening: labels stay readable under another Pillow
        gathered = np.empty((len(rows), *self.target.shape), np.uint8)
        for start in range(0, len(rows), DECODE_BLOCK):
            # Blocks bound the decoded images that wait for their turn.
            images = self.pool.map(self.image, self.links(rows[start : start + DECODE_BLOCK]))
            for row, image in enumerate(images, start):
                gathered[row] = image
        return gathered

    def links(self, rows: np.ndarray) -> list[Link]:
        # Each chunk is read and verified once, however many of its rows are requested.
        chunks = {chunk: self.chunk(chunk) for chunk in np.unique(rows // CHUNK).tolist()}
        return [chunks[row // CHUNK].link(row % CHUNK) for row in rows.tolist()]

    def chunk(self, number: int) -> LinkChunk:
        """A chunk's files. Raises UserError where the store's record of them is damaged."""
        what = f"{self.name}: file names of rows {number * CHUNK} to {min((number + 1) * CHUNK, self.rows) - 1}"
        try:
            chunk = read_chunk(self.file, number)
            intact = chunk.hash(self.header.decoding) == self.file["hashes"][number].tobytes()
        except OSError as error:
            raise unreadable(what, error, DAMAGED) from None
        except (ValueError, IndexError):  # damaged ends, which are used before they are verified
            intact = False
        if not intact:
            raise UserError(f"{what} are damaged; {DAMAGED}")
        return chunk

    def image(self, link: Link) -> np.ndarray:
        """One image, uint8 (H, W, C), of the file that the store was made of."""
        entry, stamp = link
        if problem := self.problem(link, self.archives.stamp(entry)):
            raise UserError(problem)
        data = self.archives.read(entry)
        if len(data) != stamp[0]:  # the file is being written right now
            raise UserError(self.problem(link, (len(data), 0)))
        return decode.decode_image(entry, self.target, lambda _: data)

    def problem(self, link: Link, now: Stamp | None) -> str | None:
        """An error message if a file is no longer what it was; `now` is its present stamp."""
        if now == link[1]:
            return None
        what = "is gone" if now is None else "has changed"
        return f"{entry_name(self.target.archives, link[0])} {what} since {self.name} was made; {REMEDY}"

    def damage(self) -> Iterator[str]:
        """A line for each chunk that is damaged or has a missing or changed file; nothing is decoded."""
        with ThreadPoolExecutor(STAT_THREADS) as pool:
            for number in range(len(self.file["hashes"])):
                try:
                    chunk = self.chunk(number)
                except AccessError:
                    raise  # no damage
                except UserError as error:
                    yield str(error)
                else:
                    yield from self.changes([chunk.link(row) for row in range(len(chunk.ends))], pool)

    def changes(self, links: list[Link], pool: ThreadPoolExecutor) -> Iterator[str]:
        """One line for a chunk if any of its files is missing or has changed."""
        now = stamps(self.archives, [entry for entry, _ in links], pool)
        problems = [line for link, stamp in zip(links, now, strict=True) if (line := self.problem(link, stamp))]
        if problems:
            yield problems[0] if len(problems) == 1 else f"{problems[0]} (and {len(problems) - 1} more of its chunk)"

    def refuse_other_decoding(self) -> None:
        made = self.header
        if made.decoding != decoding_of(made.size, made.resize):
            raise UserError(
                f"{self.name}: made for Pillow {made.pillow} and version {made.rule} of the decoding rule, "
                f"not {PIL.__version__} and {convert.VERSION}; install that Pillow, or delete the store and run again"
            )
