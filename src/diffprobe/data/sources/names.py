"""File names: which are images, in which order they come, how they are shown in one line."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is of the kind that systems leave behind: dot files, __MACOSX."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def raw(name: str) -> bytes:
    """The bytes of a name, those that are no UTF-8 too."""
    return name.encode("utf-8", "surrogateescape")


def in_order(names: Iterable[str]) -> list[str]:
    """Names sorted by their bytes: the same on every file system and in every locale."""
    return sorted(names, key=raw)


def printable(name: str) -> str:
    """A name as text that can be stored and printed: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def shown(name: str | Path) -> str:
    """A name for an error's one line: as it is, or quoted where it holds what would break the line."""
    text = str(name)
    return text if text.isprintable() else repr(text)
