"""The images under a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from diffprobe.data.sources.names import EXTENSIONS, in_order, is_hidden, is_image, shown
from diffprobe.runtime.errors import UserError


def walk(root: Path, deep: bool = True) -> tuple[list[str], list[str]]:
    """Images and folders under `root`, their names relative to it with `/`, sorted by their bytes.

    Links are followed, to a folder that the link lies in never; hidden files are left out.

    Raises:
        UserError: no such folder, one that may not be read, a link that leads nowhere, no image.
    """
    if not root.is_dir():
        raise UserError(f"{shown(root)}: {'not a folder' if root.exists() else 'no such folder'}; check `path`")
    try:
        found = list(scan(str(root), "", deep, frozenset()))
    except OSError as error:
        raise UserError(f"{shown(error.filename or root)}: cannot be read ({error.strerror}); check it") from None
    images = [name for name, is_folder in found if not is_folder]
    if not images:
        raise UserError(f"{shown(root)}: holds no image ({' '.join(EXTENSIONS)}); check `path`")
    return in_order(images), in_order(name for name, is_folder in found if is_folder)


def scan(folder: str, prefix: str, deep: bool, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a folder) of images and folders; `above` identifies the folders on the way here."""
    status = os.stat(folder)  # noqa: PTH116  a string is much faster than a Path for a million files
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    if prefix:
        yield prefix.removesuffix("/"), True
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                raise UserError(f"{shown(entry.path)}: a link that leads nowhere; mend or remove it")
            if entry.is_dir():
                if deep:
                    yield from scan(entry.path, f"{prefix}{entry.name}/", deep, above | {identity})
            elif is_image(entry.name) and entry.is_file():
                yield prefix + entry.name, False
