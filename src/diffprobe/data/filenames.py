"""File names: which are images, which are litter, how they are sorted, compared and printed."""

import re
import unicodedata
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    # Other extensions of the same formats
    *(".apng", ".jfif", ".jpe", ".jif", ".pjpeg", ".pjp", ".dib", ".pbm", ".pnm"),
    *((".avif",) if find_spec("PIL._avif") else ()),  # not in every build of Pillow
)
MANIFESTS = ("dataset.json", "metadata.csv", "metadata.jsonl")  # files of labels, in the order of precedence
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".xml")  # other files that may hold labels
# Files that may hold images, but are not read. Everything else that is left out is not an image.
UNREAD = frozenset(
    """
    .avif .avifs .heic .heif .hif .jp2 .j2k .jpf .jpx .jxl .jxr .svg .psd .xcf .tga .ico .pcx .exr .hdr .dds .qoi
    .raw .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw
    .dcm .dicom .nii .mha .nrrd .fits .fit .svs .czi .lif
    .npy .npz .mat .h5 .hdf5 .pt .pth .pkl .pickle .tfrecord .tfrecords .parquet .arrow .lmdb .mdb .rec .bin
    .zip .tar .gz .tgz .bz2 .xz .7z .rar .zst
    .mp4 .mov .avi .mkv .webm .m4v .mpg
    """.split()  # noqa: SIM905  pictures, cameras, medicine, arrays, archives, videos: a line each
)
# What operating systems, NAS boxes and editors leave among a user's files, in lower case.
LITTER = {
    "@eadir": "thumbnails of a Synology NAS",
    ".@__thumb": "thumbnails of a QNAP NAS",
    ".thumbnails": "thumbnails",
    ".picasaoriginals": "left by Picasa",
    "picasa.ini": "left by Picasa",
    "thumbs.db": "thumbnails of Windows",
    "ehthumbs.db": "thumbnails of Windows",
    "desktop.ini": "left by Windows",
    "zbthumbnail.info": "thumbnails",
    "#recycle": "the recycle bin of a NAS",
    "@recycle": "the recycle bin of a NAS",
    "@recently-snapshot": "snapshots of a NAS",
    "#snapshot": "snapshots of a NAS",
    ".snapshot": "snapshots of a file system",
    ".zfs": "snapshots of a file system",
    "@tmp": "temporary files of a NAS",
    "$recycle.bin": "the recycle bin of Windows",
    "recycler": "the recycle bin of Windows",
    "system volume information": "left by Windows",
    "lost+found": "left by a file system check",
    "__macosx": "left by macOS",
    ".ds_store": "left by macOS",
    ".appledouble": "left by macOS",
    ".trashes": "the recycle bin of macOS",
    "network trash folder": "the recycle bin of macOS",
    "temporary items": "left by macOS",
    "icon\r": "left by macOS",
    ".ipynb_checkpoints": "copies kept by Jupyter",
    "__pycache__": "left by Python",
}
LITTER_PREFIXES = ("SYNOPHOTO_THUMB", "SYNOFILE_THUMB")  # thumbnails of a Synology NAS
LITTER_SUFFIX = ":Zone.Identifier"  # of Windows, beside downloaded files


def extension(name: str) -> str:
    """The extension in lower case, `.png`; "" for a name without one."""
    base = name[name.rfind("/") + 1 :]
    dot = base.rfind(".")
    return base[dot:].rstrip().lower() if dot > 0 else ""


def is_image(name: str) -> bool:
    return extension(name) in EXTENSIONS


def litter(part: str) -> str | None:
    """Why a file or folder of this name is left out: what left it there, or that it is hidden; None if it is not."""
    reason = LITTER.get(part.lower())
    if reason is None and part.startswith("."):
        return "hidden"
    if reason is None and (part.startswith(LITTER_PREFIXES) or part.endswith(LITTER_SUFFIX)):
        return "thumbnails of a Synology NAS" if part.startswith(LITTER_PREFIXES) else "left by Windows"
    return reason


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is hidden or litter."""
    return any(litter(part) is not None for part in name.split("/"))


def name_bytes(name: str) -> bytes:
    """The bytes of a file name, which need not be valid UTF-8 (see PEP 383)."""
    return name.encode("utf-8", "surrogateescape")


def sort_names(names: Iterable[str]) -> list[str]:
    """Names sorted by their bytes: the same on every file system and in every locale."""
    return sorted(names, key=name_bytes)


def spelling(name: str) -> str:
    """What is left of a name without its case, its outer spaces and its form of Unicode (accents apart or joined)."""
    if name.isascii() and " " not in name and "\\" not in name and not name.startswith("./"):
        return name.casefold()  # a million times
    text = unicodedata.normalize("NFC", name)
    text = text.replace("\\", "/").casefold()
    return re.sub(r"\s*/\s*", "/", text.removeprefix("./").strip())


def printable(name: str) -> str:
    """A name that can be stored and printed: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def display(name: str | Path) -> str:
    """A name for a one-line error: unchanged, or quoted where it holds line breaks or other unprintable characters."""
    text = str(name)
    return text if text.isprintable() else repr(text)
