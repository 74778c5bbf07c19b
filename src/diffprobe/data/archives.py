"""Reading image files from folders and zips, and detecting that they have changed."""

import os
import struct
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Self
from zipfile import BadZipFile, ZipFile, ZipInfo

from PIL import Image

from diffprobe.data.convert import REMEDY
from diffprobe.data.filenames import display
from diffprobe.data.listing import Entry
from diffprobe.runtime.errors import UserError, one_line

LARGEST = 8 * (Image.MAX_IMAGE_PIXELS or 1 << 27)  # bytes: four per pixel of the largest image that is decoded
SUSPICIOUS, RATIO = 1 << 26, 200  # bytes from which an entry of a zip must not shrink more than this

Stamp = tuple[int, int]  # size and mtime (ns) of a file; size and CRC of an entry of a zip


class Archives:
    """Folders and zips, opened on first use; zips stay open, since reading the directory of a large one takes seconds.

    Thread-safe. Raises UserError for whatever cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths, self.stack, self.lock = paths, ExitStack(), Lock()  # the lock guards `zips`
        self.zips: dict[int, ZipFile | None] = {}  # by index, those opened so far; None for a folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.stack.close()

    def read(self, entry: Entry) -> bytes:
        """A file's bytes; an entry of a zip is checked against its CRC."""
        index, name = entry
        try:
            archive = self.zip(index)
            if archive is None:
                return read_image_file(self.paths[index] / name)
            refuse_bomb(self.paths[index], archive.getinfo(name))  # the zip may be another than when it was listed
            return archive.read(name)
        except UserError:
            raise
        except Exception as error:  # zipfile raises a dozen kinds of errors for a damaged archive
            raise self.unreadable(entry, error) from None

    def stamp(self, entry: Entry) -> Stamp | None:
        """What changes when a file does; None if it does not exist."""
        index, name = entry
        try:
            archive = self.zip(index)
            if archive is None:
                status = os.stat(f"{self.paths[index]}/{name}")  # noqa: PTH116  three times as fast as a Path
                return status.st_size, status.st_mtime_ns
            info = archive.getinfo(name)
            return info.file_size, info.CRC
        except (FileNotFoundError, NotADirectoryError, KeyError):
            return None
        except Exception as error:
            raise self.unreadable(entry, error) from None

    def zip(self, index: int) -> ZipFile | None:
        """An archive as an open zip; None for a folder."""
        with self.lock:
            if index not in self.zips:
                path = self.paths[index]
                self.zips[index] = None if path.is_dir() else self.stack.enter_context(ZipFile(path))
            return self.zips[index]

    def unreadable(self, entry: Entry, error: Exception) -> UserError:
        return UserError(f"{entry_name(self.paths, entry)} cannot be read ({one_line(error)}); {REMEDY}")


def read_image_file(path: Path) -> bytes:
    """Raises UserError for a file that is larger than any image that is decoded."""
    with path.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST:
            raise UserError(
                f"{display(path)}: has {size:,} bytes, more than an image that is decoded can have; remove it"
            )
        return file.read()


def check_directory(path: Path, archive: ZipFile, is_read: Callable[[str], bool]) -> None:
    """Raise BadZipFile where the directory lacks entries, or calls one that is never read by another name.

    The directory has no checksum. Of entries that are read zipfile compares the names itself.
    """
    end = path.stat().st_size - len(archive.comment) - 22
    with path.open("rb") as file:
        file.seek(max(0, end))
        (signature, total) = struct.unpack("<4s6xH", file.read(12).ljust(12, b"\0"))
    # A zip of more than 65,534 entries says how many elsewhere.
    if signature == b"PK\5\6" and total not in (0xFFFF, len(archive.infolist())):
        raise BadZipFile(f"its directory is damaged: {len(archive.infolist())} of {total} entries")
    for entry in archive.infolist():
        if not is_read(entry.filename):
            archive.open(entry).close()


def refuse_bomb(path: Path, entry: ZipInfo) -> None:
    """Raise UserError for an entry that declares more bytes than an image has, or that shrinks as no image does."""
    bomb = entry.file_size > SUSPICIOUS and entry.file_size > RATIO * entry.compress_size
    if bomb or entry.file_size > LARGEST:
        raise UserError(
            f"{display(path)}: entry {display(entry.filename)} would unpack to {entry.file_size:,} bytes, more than an "
            "image holds; remove it from the zip, or save it as PNG"
        )


def entry_name(paths: tuple[Path, ...], entry: Entry) -> str:
    """The name of a file in error messages; `repr` keeps it to one line."""
    return f"{entry[1]!r} in {display(paths[entry[0]])}"
