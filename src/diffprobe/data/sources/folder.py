"""Any folder of images: a sub-folder per class or none, split folders above them or none."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from diffprobe.config.sources.folder import Folder
from diffprobe.data.filenames import EXTENSIONS, display, is_hidden, is_image, printable, sort_names
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources.tree import arrange
from diffprobe.runtime.errors import UserError


def find(source: Folder, archives: Mapping[str, Path]) -> Listing:
    root = Path(source.path).expanduser()
    files, folders = list_files(root)
    tree = arrange([name for _, name in files.entries], folders, display(root), source.labels)
    return Listing(*tree, f"folder {printable(root.resolve().name)}", files)


def list_files(root: Path) -> tuple[Files, list[str]]:
    """The images under a folder, sorted by the bytes of their names, and its sub-folders. Raises UserError."""
    names, folders = walk(root)
    return Files((root,), [(0, name) for name in names]), folders


def walk(root: Path, deep: bool = True) -> tuple[list[str], list[str]]:
    """Images and folders under `root`: names relative to it, with `/`, sorted by their bytes.

    Hidden files are left out. Links are followed, except those to a folder that contains them.

    Raises:
        UserError: no such folder, an unreadable one, a broken link, or no image at all.
    """
    if not root.is_dir():
        raise UserError(f"{display(root)}: {'not a folder' if root.exists() else 'no such folder'}; check `path`")
    try:
        entries = list(scan(str(root), "", deep, frozenset()))
    except OSError as error:
        raise UserError(f"{display(error.filename or root)}: cannot be read ({error.strerror}); check it") from None
    images = [name for name, is_folder in entries if not is_folder]
    if not images:
        raise UserError(f"{display(root)}: holds no image ({' '.join(EXTENSIONS)}); check `path`")
    return sort_names(images), sort_names(name for name, is_folder in entries if is_folder)


def scan(folder: str, prefix: str, deep: bool, parents: frozenset[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a folder) of images and folders; `parents` are the (device, inode) of folders above."""
    status = os.stat(folder)  # noqa: PTH116  with a million files, strings are much faster than Paths
    identity = (status.st_dev, status.st_ino)
    if identity in parents:  # a link to a folder that contains it: a loop
        return
    if prefix:
        yield prefix.removesuffix("/"), True
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                raise UserError(f"{display(entry.path)}: broken link; repair or remove it")
            if entry.is_dir():
                if deep:
                    yield from scan(entry.path, f"{prefix}{entry.name}/", deep, parents | {identity})
            elif is_image(entry.name) and entry.is_file():
                yield prefix + entry.name, False
