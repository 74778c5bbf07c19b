"""The folders and zips that image files lie in: their bytes, and what tells that they have changed."""

import os
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Self
from zipfile import ZipFile

from diffprobe.data.convert import REMEDY
from diffprobe.runtime.errors import UserError, one_line

Entry = tuple[int, str]  # index of the archive, name inside it
Stamp = tuple[int, int]


class Archives:
    """Opened when first read. Zips stay open: to read the directory of a large one takes seconds. Any thread may read.

    Raises UserError for whatever cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths, self.held, self.turn = paths, ExitStack(), Lock()
        self.opened: dict[int, ZipFile | None] = {}  # None: a folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.held.close()

    def read(self, entry: Entry) -> bytes:
        """A file's bytes; those of a zip are compared with its checksum."""
        index, name = entry
        try:
            archive = self.zip(index)
            return (self.paths[index] / name).read_bytes() if archive is None else archive.read(name)
        except Exception as error:  # zipfile raises a dozen kinds over a damaged archive
            why = one_line(error)
            raise UserError(f"{called(self.paths, entry)} cannot be read ({why}); {REMEDY}") from None

    def stamp(self, entry: Entry) -> Stamp | None:
        """What changes with a file: its size and time (ns), in a zip size and checksum; None where there is none."""
        index, name = entry
        try:
            archive = self.zip(index)
            if archive is None:
                status = os.stat(f"{self.paths[index]}/{name}")  # noqa: PTH116  thrice as fast as a Path
                return status.st_size, status.st_mtime_ns
            found = archive.getinfo(name)
            return found.file_size, found.CRC
        except (FileNotFoundError, NotADirectoryError, KeyError):
            return None
        except Exception as error:
            why = one_line(error)
            raise UserError(f"{called(self.paths, entry)} cannot be read ({why}); {REMEDY}") from None

    def zip(self, index: int) -> ZipFile | None:
        """The open zip; None where the archive is a folder."""
        with self.turn:
            if index not in self.opened:
                path = self.paths[index]
                self.opened[index] = None if path.is_dir() else self.held.enter_context(ZipFile(path))
            return self.opened[index]


def called(paths: tuple[Path, ...], entry: Entry) -> str:
    """What errors call a file: one line, whatever is in its name."""
    return f"{entry[1]!r} in {paths[entry[0]]}"
