"""Detects that a local source has changed, without reading its images."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from diffprobe.data.filenames import MANIFESTS, is_hidden, is_image
from diffprobe.runtime.files import digest

FILES = 20_000  # images of a folder whose status is read one by one; of larger folders only the sub-folders' is
ARRAYS = (".npy", ".safetensors")

Stamp = list[str | int]  # name, size (0 for a folder), time of the last change (ns)


def fingerprint(paths: Iterable[str]) -> str | None:
    """A digest of the names, sizes and times of zips, and of images and labels in folders; None if no path exists.

    For a folder with more than FILES images it covers the folders' times alone, which change when a file is added or
    removed but not when one is overwritten in place. Raises OSError for a broken link and an unreadable folder.
    """
    stamps = [entry for top in map(Path, paths) if top.exists() for entry in stamps_of(top)]
    return digest(sorted(stamps)) if stamps else None


def is_there(path: str) -> bool:
    """Whether a path is a file, or a folder with a file in it: the mount point of a drive that is away is empty."""
    top = Path(path)
    try:
        return top.is_file() or (top.is_dir() and any(not is_folder for _, is_folder in walk(top)))
    except OSError:  # a folder that cannot be read: whoever reads it says so
        return True


def stamps_of(top: Path) -> list[Stamp]:
    if top.is_file():
        return [stamp(top, top.name)]
    images: list[Path] = []
    folders, manifests = [top], []
    for path, is_folder in walk(top):
        if is_folder:
            folders.append(path)
        elif is_image(path.name):
            images += [path] if len(images) <= FILES else []
        elif path.name.lower() in MANIFESTS:
            manifests.append(path)
    # Adding or removing a file changes its folder's mtime.
    paths = (images if len(images) <= FILES else folders) + manifests
    return [stamp(path, ascii(str(path.relative_to(top)))) for path in paths]  # ascii: names may not be valid UTF-8


def fingerprint_arrays(folders: Iterable[str]) -> str | None:
    """The same for the .npy and .safetensors files directly in folders."""
    stamps = [[number, *array_stamps(Path(top))] for number, top in enumerate(folders) if Path(top).is_dir()]
    return digest(stamps) if stamps else None


def array_stamps(folder: Path) -> list[Stamp]:
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if entry.name.endswith(ARRAYS) and not is_hidden(entry.name))
        first = sorted(islice(names, FILES + 1))  # stops early in a folder of a million files
    return [stamp(folder, "")] if len(first) > FILES else [stamp(folder / name, ascii(name)) for name in first]


def walk(folder: Path, parents: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[Path, bool]]:
    """All paths below a folder, without hidden ones, and whether each is a folder.

    Links are followed, but not to a folder above, whose (device, inode) are in `parents`.
    """
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    for path in folder.iterdir():
        if not is_hidden(path.name):
            is_folder = path.is_dir()
            yield path, is_folder
            if is_folder:
                yield from walk(path, parents | {identity})


def stamp(path: Path, name: str) -> Stamp:
    status = path.stat()
    return [name, status.st_size if path.is_file() else 0, status.st_mtime_ns]
