"""Zips of images in the form of EDM (Karras et al. 2022): labels in dataset.json; else as the folders tell."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import manifest
from diffprobe.data.sources.manifest import Manifest
from diffprobe.data.sources.names import EXTENSIONS, in_order, is_hidden, is_image, printable, shown
from diffprobe.data.sources.tree import arrange, below, split_folders
from diffprobe.runtime.errors import UserError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 0x1  # a bit of an entry's flags
BY_MANIFEST, BY_FOLDER, NOT = f"labels in {manifest.NAME}", "class folders", "no labels"


class Zip(NamedTuple):
    """What one zip holds: images and folders sorted by their bytes, its dataset.json or none."""

    path: Path
    images: list[str]
    folders: list[str]
    manifest: Manifest | None


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """Several zips as one dataset: the first zip's images in the order of their names' bytes, then the next's.

    Raises:
        UserError: a zip is missing, damaged, encrypted, unsafe or empty; labels contradict themselves (see
            `manifest` and `tree`), or not all zips tell them in the same way.
    """
    zips = [look(Path(path).expanduser(), source["labels"]) for path in source["paths"]]
    where = ", ".join(shown(part.path) for part in zips)
    names = [name for part in zips for name in part.images]
    way = told(zips, split_folders(names, where)) if source["labels"] else NOT
    folders = [folder for part in zips for folder in part.folders]
    tree = arrange(names, folders, where, labels=way == BY_FOLDER)
    if way == BY_MANIFEST:
        labels, classes = manifest.join([part.manifest for part in zips if part.manifest], where)
        tree = tree._replace(labels=labels, classes=classes)
    entries = [(i, name) for i, part in enumerate(zips) for name in part.images]
    origin = " + ".join(printable(part.path.name) for part in zips)
    return Listing(*tree, origin, Files(tuple(part.path for part in zips), entries))


def look(path: Path, labels: bool) -> Zip:
    with opened(path) as archive:
        images, folders = members(path, archive)
        found = manifest.read(path, archive, images) if labels and manifest.NAME in archive.namelist() else None
    return Zip(path, images, folders, found)


def told(zips: Sequence[Zip], splits: dict[str, int]) -> str:
    """How the zips tell their labels.

    Raises:
        UserError: not all in the same way.
    """
    ways = {way(part, splits): part.path for part in zips}
    if len(ways) > 1:
        each = ", ".join(f"{shown(path)} has {found}" for found, path in ways.items())
        raise UserError(f"{each}; all zips of a dataset must tell their labels in the same way, or set labels: false")
    return next(iter(ways))


def way(part: Zip, splits: dict[str, int]) -> str:
    if part.manifest is not None:
        return NOT if part.manifest.labels is None else BY_MANIFEST
    return BY_FOLDER if any("/" in below(name, splits) for name in part.images) else NOT


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose entries are safe to name and to read.

    Raises:
        UserError: missing, damaged, encrypted, or with an entry that would leave the folder it is extracted to.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                refuse_unsafe(path, entry)
            yield archive
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: no such zip; check its path") from None
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{shown(path)}: no whole zip ({error}); fetch or make it again") from None


def refuse_unsafe(path: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if name.startswith("/") or name[1:2] == ":" or "\\" in name or ".." in PurePosixPath(name).parts:
        raise UserError(f"{shown(path)}: entry {shown(name)} would leave the folder it is extracted to; make it again")
    if entry.flag_bits & ENCRYPTED:
        raise UserError(f"{shown(path)}: entry {shown(name)} is encrypted; make the zip without a password")
    if entry.compress_type not in METHODS:
        raise UserError(
            f"{shown(path)}: entry {shown(name)} is packed in an unknown way; make it with deflate or store"
        )
    if entry.header_offset < 0:  # the end is there, so the directory is, but bytes before it are lost
        raise zipfile.BadZipFile("bytes are missing")


def members(path: Path, archive: zipfile.ZipFile) -> tuple[list[str], list[str]]:
    """Images and folders of a zip, hidden ones left out, sorted by their bytes.

    Raises:
        UserError: no image, or one name twice.
    """
    names = [name for name in archive.namelist() if not is_hidden(name)]
    images = in_order(name for name in names if is_image(name))
    if not images:
        raise UserError(f"{shown(path)}: holds no image ({' '.join(EXTENSIONS)}); check its path")
    twice = next((name for name, after in pairwise(images) if name == after), None)
    if twice is not None:
        raise UserError(f"{shown(path)}: holds {shown(twice)} twice; make the zip again")
    return images, in_order(name.removesuffix("/") for name in names if name.endswith("/"))
