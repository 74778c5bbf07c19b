"""Any folder of images: a sub-folder per class or none, split folders above them or none, or labels in a file."""

import os
from collections.abc import Mapping
from pathlib import Path

from diffprobe.config.sources.folder import Folder
from diffprobe.data.filenames import display, extension, is_image, litter, printable
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import manifests
from diffprobe.data.sources.contents import Contents
from diffprobe.data.sources.tree import agrees_with_folders, by_folder, by_manifest, unlabelled_tree
from diffprobe.runtime.errors import UserError


def find(source: Folder, archives: Mapping[str, Path]) -> Listing:
    root = Path(source.path).expanduser()
    contents = walk(root)
    names, folders, where, survey = contents.images, contents.folders, contents.where, contents.survey
    manifest = manifests.read(contents) if source.labels else None
    if not source.labels or (manifest is not None and manifest.labels is None):
        tree = unlabelled_tree(names, where, survey)
    elif manifest is None or agrees_with_folders(names, manifest, where, survey):
        tree = by_folder(names, folders, where, survey)
    else:
        tree = by_manifest(names, manifest, where, survey)
    files = Files((root,), [(0, name) for name in names])
    return tree.listing(f"folder {printable(root.resolve().name)}", files, survey)


def list_files(root: Path) -> Files:
    """The images under a folder, sorted by the bytes of their names. Raises UserError."""
    return Files((root,), [(0, name) for name in walk(root).images])


def walk(root: Path, deep: bool = True) -> Contents:
    """What lies under `root`. Hidden files and litter are left out. Links are followed, but not to a folder above.

    Raises:
        UserError: no such folder, an unreadable one, a broken link, or no image at all.
    """
    if not root.is_dir():
        what = "not a folder (archives other than .zip are to be unpacked)" if root.exists() else "no such folder"
        raise UserError(f"{display(root)}: {what}; check the path")
    contents = Contents(display(root), lambda name, limit: read(root / name, limit))
    try:
        scan(contents, str(root), "", deep, frozenset())
    except OSError as error:
        raise UserError(f"{display(error.filename or root)}: cannot be read ({error.strerror}); check it") from None
    contents.settle()
    return contents


def scan(contents: Contents, folder: str, prefix: str, deep: bool, parents: frozenset[tuple[int, int]]) -> None:
    """Add what lies in a folder; `parents` are the (device, inode) of the folders above it."""
    status = os.stat(folder)  # noqa: PTH116  with a million files, strings are much faster than Paths
    identity = (status.st_dev, status.st_ino)
    if identity in parents:  # a link to a folder that contains it: a loop
        contents.survey.leave_out("link to a folder above", "its images are listed already", prefix)
        return
    if prefix:
        contents.folders.append(prefix.removesuffix("/"))
    with os.scandir(folder) as entries:
        for entry in entries:
            if litter(entry.name) is not None:
                contents.survey.leave_out_litter(prefix + entry.name)
                continue
            dead = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
            if dead and (is_image(entry.name) or not extension(entry.name)):  # an image or a folder
                raise UserError(f"{display(entry.path)}: broken link; repair or remove it")
            if entry.is_dir():
                if deep:
                    scan(contents, entry.path, f"{prefix}{entry.name}/", deep, parents | {identity})
            elif dead or entry.is_file():
                contents.add_file(prefix + entry.name)


def read(path: Path, limit: int) -> bytes:
    """Raises UserError for a file of more than `limit` bytes, and for one that cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UserError(f"{display(path)}: cannot be read ({error.strerror}); check it") from None
    if len(data) > limit:
        raise UserError(f"{display(path)}: larger than the labels of these images can be; replace or remove it")
    return data
