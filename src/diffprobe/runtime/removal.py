r"""Deleting within bounds: only files whose names we would have written, and never through a link.

The layout of a store is a list of paths whose components are regular expressions, such as `images/c/\d+/0/0/0`.
Names are matched against it while the real folder is walked; no path is ever built from what a file says.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffprobe.runtime.errors import UserError

PARTIAL = re.compile(r"\..*\.\d+\.part(\..*)?", re.DOTALL)  # what `files.atomic` calls a file that is being written


def remove_store(folder: Path, layout: Sequence[str]) -> None:
    """Remove a folder whose files all have names of `layout`, if it is there.

    Raises UserError, with nothing removed, where the folder is a link or holds anything else.
    """
    if not os.path.lexists(folder):  # `exists` would miss a link to nowhere
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{folder}: is a link or a file where a folder is replaced; move it away and run again")
    for path in foreign(folder, layout):
        raise UserError(f"{folder}: holds {path}, which is not ours; nothing is removed, move it away and run again")
    contents = list(os.walk(folder))
    for root, _, files in contents:  # from the top: the manifest goes before what it vouches for
        for name in files:
            Path(root, name).unlink()
    for root, _, _ in reversed(contents):
        Path(root).rmdir()


def foreign(folder: Path, layout: Sequence[str]) -> Iterator[Path]:
    """What in a folder has no name of the layout, relative to it; links and devices never have one."""
    templates = [[re.compile(part) for part in path.split("/")] for path in layout]
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name).relative_to(folder)
            if not any(fits(folder, path, template) for template in templates):
                yield path


def fits(folder: Path, path: Path, template: Sequence[re.Pattern[str]]) -> bool:
    """Whether a regular file is the template's, or half-written beside it, or a real folder leads there."""
    mode = (folder / path).lstat().st_mode
    half_written = stat.S_ISREG(mode) and PARTIAL.fullmatch(path.name)
    # A half-written file stands for the folder that it lies in: some file of the template is there or below.
    parts = path.parent.parts if half_written else path.parts
    if not all(pattern.fullmatch(part) for pattern, part in zip(template, parts, strict=False)):
        return False
    if half_written or stat.S_ISDIR(mode):
        return len(parts) < len(template)
    return stat.S_ISREG(mode) and len(parts) == len(template)


def remove_file(folder: Path, path: str | Path) -> None:
    """Remove one regular file, by its path from `folder`, if it is there.

    Raises UserError where the path leaves the folder, by its name or by a link on the way, or ends in a link or folder.
    """
    file = folder / path
    if not file.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{file}: lies outside {folder}; nothing is removed there")
    if file.is_symlink() or file.is_dir():
        raise UserError(f"{file}: is a link or a folder in the place of a file; look at it and remove it yourself")
    file.unlink(missing_ok=True)
