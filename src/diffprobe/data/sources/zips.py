"""Zips of images as EDM makes them (Karras et al. 2022), with labels in dataset.json; else labels from the folders."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from diffprobe.config.sources.zip import Zip
from diffprobe.data.filenames import EXTENSIONS, display, is_hidden, is_image, printable, sort_names
from diffprobe.data.listing import Files, Listing
from diffprobe.data.sources import dataset_json
from diffprobe.data.sources.dataset_json import Manifest
from diffprobe.data.sources.tree import arrange, below, split_folders
from diffprobe.runtime.errors import UserError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 0x1  # a bit of an entry's flags
BY_MANIFEST, BY_FOLDER, NONE = f"labels in {dataset_json.NAME}", "class folders", "no labels"


class ZipContents(NamedTuple):
    """The content of one zip: images and folders sorted by their bytes, its dataset.json if it is read."""

    path: Path
    images: list[str]
    folders: list[str]
    manifest: Manifest | None


def find(source: Zip, archives: Mapping[str, Path]) -> Listing:
    """Several zips as one dataset.

    Raises:
        UserError: a zip is missing, damaged, encrypted, unsafe or empty; labels are contradictory (see `dataset_json`
            and `tree`); or not all zips are labelled in the same way.
    """
    zips = [read_zip(Path(path).expanduser(), source.labels) for path in source.paths]
    where = ", ".join(display(part.path) for part in zips)
    names = [name for part in zips for name in part.images]
    labelling = common_labelling(zips, split_folders(names, where)) if source.labels else NONE
    folders = [folder for part in zips for folder in part.folders]
    tree = arrange(names, folders, where, labels=labelling == BY_FOLDER)
    if labelling == BY_MANIFEST:
        labels, classes = dataset_json.join([part.manifest for part in zips if part.manifest], where)
        # Splits still follow from the folders.
        tree = tree._replace(labels=labels, classes=classes)
    return Listing(*tree, " + ".join(printable(part.path.name) for part in zips), to_files(zips))


def list_files(path: Path) -> Files:
    """The images of one zip, without labels. Raises UserError as `find` does."""
    return to_files([read_zip(path, labels=False)])


def to_files(zips: Sequence[ZipContents]) -> Files:
    """The first zip's images sorted by the bytes of their names, then the next one's."""
    return Files(tuple(part.path for part in zips), [(i, name) for i, part in enumerate(zips) for name in part.images])


def read_zip(path: Path, labels: bool) -> ZipContents:
    with open_zip(path) as archive:
        images, folders = members(path, archive)
        has_manifest = labels and dataset_json.NAME in archive.namelist()
        return ZipContents(path, images, folders, dataset_json.read(path, archive, images) if has_manifest else None)


def common_labelling(zips: Sequence[ZipContents], splits: dict[str, int]) -> str:
    """How the zips are labelled. Raises UserError unless it is the same for all."""
    ways = {labelling(part, splits): part.path for part in zips}
    if len(ways) > 1:
        each = ", ".join(f"{display(path)} has {way}" for way, path in ways.items())
        raise UserError(f"{each}; all zips of a dataset must be labelled in the same way, or set labels: false")
    return next(iter(ways))


def labelling(part: ZipContents, splits: dict[str, int]) -> str:
    if part.manifest is not None:
        return NONE if part.manifest.labels is None else BY_MANIFEST
    return BY_FOLDER if any("/" in below(name, splits) for name in part.images) else NONE


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip that is safe to read. Raises UserError where it is missing or damaged, and as `refuse_unsafe` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                refuse_unsafe(path, entry)
            yield archive
    except FileNotFoundError:
        raise UserError(f"{display(path)}: no such zip; check its path") from None
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{display(path)}: damaged or not a zip ({error}); download or create it again") from None


def refuse_unsafe(path: Path, entry: zipfile.ZipInfo) -> None:
    """Raise UserError for an encrypted or unreadable entry, and for one that would be extracted elsewhere."""
    name = entry.filename
    # Nothing is extracted here, but a zip with such names is broken or malicious.
    if name.startswith("/") or name[1:2] == ":" or "\\" in name or ".." in PurePosixPath(name).parts:
        raise UserError(f"{display(path)}: entry {display(name)} would leave the folder it is extracted to; rename it")
    if entry.flag_bits & ENCRYPTED:
        raise UserError(f"{display(path)}: entry {display(name)} is encrypted; create the zip without a password")
    if entry.compress_type not in METHODS:
        raise UserError(f"{display(path)}: entry {display(name)} has an unsupported compression; use deflate or store")
    if entry.header_offset < 0:  # the directory at the end is intact, but bytes before it are missing
        raise zipfile.BadZipFile("bytes are missing")


def members(path: Path, archive: zipfile.ZipFile) -> tuple[list[str], list[str]]:
    """Images and folders of a zip, without hidden ones, sorted by their bytes.

    Raises UserError where there is no image, or the same name twice.
    """
    names = [name for name in archive.namelist() if not is_hidden(name)]
    images = sort_names(name for name in names if is_image(name))
    if not images:
        raise UserError(f"{display(path)}: holds no image ({' '.join(EXTENSIONS)}); check its path")
    duplicate = next((name for name, following in pairwise(images) if name == following), None)
    if duplicate is not None:
        raise UserError(f"{display(path)}: holds {display(duplicate)} twice; create the zip again")
    return images, sort_names(name.removesuffix("/") for name in names if name.endswith("/"))
