"""Zips of images as EDM makes them (Karras et al. 2022), with labels in a file, else from the folders."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from diffprobe.config.sources.zip import Zip
from diffprobe.data.archives import check_directory, refuse_bomb
from diffprobe.data.filenames import MANIFESTS, display, is_image, litter, printable
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import manifests
from diffprobe.data.sources.contents import Contents
from diffprobe.data.sources.manifests import Manifest
from diffprobe.data.sources.splitfolders import folder_labels, split_folders, top
from diffprobe.data.sources.tree import FOLDERS, NO_LABELS, agrees_with_folders, by_folder, by_manifest, unlabelled_tree
from diffprobe.data.survey import SurveyNotes
from diffprobe.runtime.errors import UserError, access_error

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 0x1  # a bit of an entry's flags
NONE = "no labels"
# All that zipfile and its decoders raise for damaged bytes, and for features that they do not know.
DAMAGE = (
    *(zipfile.BadZipFile, EOFError, OSError, OverflowError, RuntimeError, ValueError),
    *(struct.error, zlib.error, lzma.LZMAError),
)


class ZipContents(NamedTuple):
    """The content of one zip, and its labels if a file gives them and they are read."""

    path: Path
    contents: Contents
    manifest: Manifest | None


def find(source: Zip, archives: Mapping[str, Path]) -> Listing:
    """Several zips as one dataset.

    Raises:
        UserError: a zip is missing, damaged, encrypted, unsafe or empty; labels are contradictory (see `manifests` and
            `tree`); or not all zips are labelled in the same way.
    """
    zips = [read_zip(archives.get(path, Path(path).expanduser()), source.labels) for path in source.paths]
    where, survey = ", ".join(display(part.path) for part in zips), SurveyNotes()
    for part in zips:
        survey.add(part.contents.survey)
    names = [name for part in zips for name in part.contents.images]
    folders = [folder for part in zips for folder in part.contents.folders]
    labelling = common_labelling(zips, names, where) if source.labels else NONE
    if labelling == NONE:
        tree = unlabelled_tree(names, where, survey)
    elif labelling == FOLDERS:
        tree = by_folder(names, folders, where, survey)
    else:
        manifest = manifests.concatenated([part.manifest for part in zips if part.manifest], where)
        # A dataset.json in a zip always names the labels, as for EDM.
        if not manifest.name.endswith(".json") and agrees_with_folders(names, manifest, where, survey):
            tree = by_folder(names, folders, where, survey)
        else:
            tree = by_manifest(names, manifest, where, survey)
    return tree.listing(" + ".join(printable(part.path.name) for part in zips), to_files(zips), survey)


def list_files(path: Path) -> Files:
    """The images of one zip, without labels. Raises UserError as `find` does."""
    return to_files([read_zip(path, labels=False)])


def to_files(zips: Sequence[ZipContents]) -> Files:
    """The first zip's images sorted by the bytes of their names, then the next one's."""
    entries = [(i, name) for i, part in enumerate(zips) for name in part.contents.images]
    return Files(tuple(part.path for part in zips), entries)


def read_zip(path: Path, labels: bool) -> ZipContents:
    with open_zip(path) as archive:
        contents = members(path, archive)
        return ZipContents(path, contents, manifests.read(contents) if labels else None)


def common_labelling(zips: Sequence[ZipContents], names: Sequence[str], where: str) -> str:
    """How the zips are labelled: NONE, FOLDERS, or in a file. Raises UserError unless it is the same for all."""
    splits = split_folders({top(name) for name in names}, where)
    ways = {labelling(part, splits): part.path for part in zips}
    if len(ways) > 1:
        each = ", ".join(f"{display(path)} has {way}" for way, path in ways.items())
        raise UserError(f"{each}; all zips of a dataset must be labelled in the same way, or {NO_LABELS}")
    return next(iter(ways))


def labelling(part: ZipContents, splits: Mapping[str, str]) -> str:
    if part.manifest is not None:
        return NONE if part.manifest.labels is None else f"labels in {part.manifest.kind}"
    return FOLDERS if any(folder_labels(part.contents.images, splits)) else NONE


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip that is safe to read. Raises UserError where it is missing or damaged, and as `refuse_unsafe` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                refuse_unsafe(path, entry)
            check_directory(path, archive, is_read)
            yield archive
    except FileNotFoundError:
        raise UserError(f"{display(path)}: no such zip; check its path") from None
    except DAMAGE as error:
        if refusal := access_error(display(path), error):
            raise refusal from None
        raise UserError(f"{display(path)}: damaged or not a zip ({error}); download or create it again") from None


def is_read(name: str) -> bool:
    """Whether an entry is an image, a folder or a file of labels."""
    return is_image(name) or name.endswith("/") or name.rsplit("/", 1)[-1].lower() in MANIFESTS


def refuse_unsafe(path: Path, entry: zipfile.ZipInfo) -> None:
    """Raise UserError for an encrypted or unreadable entry, and for one that would be extracted elsewhere."""
    name = entry.filename
    if "\\" in name and ".." not in name:
        raise UserError(
            f"{display(path)}: entry {display(name)} has \\ for /, as some programs of Windows write it; unpack "
            "the zip there and use the folder"
        )
    # Nothing is extracted here, but a zip with such names is broken or malicious.
    if name.startswith("/") or name[1:2] == ":" or "\\" in name or ".." in PurePosixPath(name).parts:
        raise UserError(f"{display(path)}: entry {display(name)} would leave the folder it is extracted to; rename it")
    if entry.flag_bits & ENCRYPTED:
        raise UserError(f"{display(path)}: entry {display(name)} is encrypted; create the zip without a password")
    if entry.compress_type not in METHODS:
        raise UserError(f"{display(path)}: entry {display(name)} has an unsupported compression; use deflate or store")
    if entry.header_offset < 0:  # the directory at the end is intact, but bytes before it are missing
        raise zipfile.BadZipFile("bytes are missing")


def members(path: Path, archive: zipfile.ZipFile) -> Contents:
    """What a zip holds, without hidden files and litter.

    Raises UserError where there is no image, where one could fill the memory, or the same name twice.
    """

    def read(name: str, limit: int) -> bytes:
        if archive.getinfo(name).file_size > limit:
            raise UserError(
                f"{display(path)}: {display(name)} is larger than the labels of these images can be; replace it"
            )
        return archive.read(name)

    contents = Contents(display(path), read, zipped=True)
    thrown: set[str] = set()  # hidden folders and litter, each counted once
    for entry in archive.infolist():
        name = entry.filename
        parts = name.removesuffix("/").split("/")
        depth = next((i for i, part in enumerate(parts) if litter(part) is not None), None)
        if depth is not None:
            outermost = "/".join(parts[: depth + 1])
            if outermost not in thrown:
                thrown.add(outermost)
                contents.survey.leave_out_litter(outermost)
        elif name.endswith("/"):
            contents.folders.append(name.removesuffix("/"))
        else:
            if is_image(name):
                refuse_bomb(path, entry)
            contents.add_file(name)
    contents.settle()
    duplicate = next((name for name, following in pairwise(contents.images) if name == following), None)
    if duplicate is not None:
        raise UserError(f"{display(path)}: holds {display(duplicate)} twice; create the zip again")
    return contents
