"""Whether a local source has changed, told without reading it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from diffprobe.runtime.files import digest

DEPTH = 2  # folders below a source that are looked at: splits, and classes within them


def fingerprint(paths: Iterable[str]) -> str | None:
    """A digest of the names and times of zips, or of folders and those in them; None where there is no local source.

    A folder's time changes when a file in it comes, goes or is replaced, so no file needs to be looked at.
    """
    seen = [
        [str(path.relative_to(top)), path.stat().st_mtime_ns] for top in map(Path, paths) for path in looked_at(top)
    ]
    return digest(seen) if seen else None


def looked_at(top: Path, depth: int = DEPTH) -> Iterator[Path]:
    """A path and, of a folder, the folders in it, in order of their names."""
    if not top.exists():
        return
    yield top
    if top.is_dir() and depth:
        for below in sorted(path for path in top.iterdir() if path.is_dir()):
            yield from looked_at(below, depth - 1)
