"""Reading image files from folders and zips, and detecting that they have changed."""

import os
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Self
from zipfile import ZipFile

from diffprobe.data.convert import REMEDY
from diffprobe.data.listing import Entry
from diffprobe.runtime.errors import UserError, one_line

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
            return (self.paths[index] / name).read_bytes() if archive is None else archive.read(name)
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


def entry_name(paths: tuple[Path, ...], entry: Entry) -> str:
    """The name of a file in error messages; `repr` keeps it to one line."""
    return f"{entry[1]!r} in {paths[entry[0]]}"
