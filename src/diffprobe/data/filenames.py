"""File names: which are images, how they are sorted, how they are printed."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is a dot file or the __MACOSX that macOS adds to zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def name_bytes(name: str) -> bytes:
    """The bytes of a file name, which need not be valid UTF-8 (see PEP 383)."""
    return name.encode("utf-8", "surrogateescape")


def sort_names(names: Iterable[str]) -> list[str]:
    """Names sorted by their bytes: the same on every file system and in every locale."""
    return sorted(names, key=name_bytes)


def printable(name: str) -> str:
    """A name that can be stored and printed: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def display(name: str | Path) -> str:
    """A name for a one-line error: unchanged, or quoted where it holds line breaks or other unprintable characters."""
    text = str(name)
    return text if text.isprintable() else repr(text)
