"""Whether a local source has changed, told without reading its images."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from diffprobe.data.sources.names import is_hidden, is_image
from diffprobe.runtime.files import digest

FILES = 20_000  # images of a folder that are looked at one by one; of larger ones only the folders are
ARRAYS = (".npy", ".safetensors")


def fingerprint(paths: Iterable[str]) -> str | None:
    """A digest of the names, sizes and times of zips and of the images in folders; None where there is no such source.

    Of a folder with more than FILES images it holds the folders' times alone, which change when a file comes or goes
    but not when one is written over in place.
    """
    seen = [entry for top in map(Path, paths) if top.exists() for entry in looked_at(top)]
    return digest(sorted(seen)) if seen else None


def looked_at(top: Path) -> list[list]:
    if top.is_file():
        return [stamp(top, top.name)]
    images = list(islice((path for path in below(top) if is_image(path.name)), FILES + 1))
    chosen = images if len(images) <= FILES else [top, *(path for path in below(top) if path.is_dir())]
    return [stamp(path, ascii(str(path.relative_to(top)))) for path in chosen]


def fingerprint_arrays(folders: Iterable[str]) -> str | None:
    """The same of the .npy and .safetensors that lie right in the folders, by as much of them as is soon looked at."""
    seen = [[number, *arrays_in(Path(top))] for number, top in enumerate(folders) if Path(top).is_dir()]
    return digest(seen) if seen else None


def arrays_in(folder: Path) -> list[list]:
    with os.scandir(folder) as entries:  # of a million files, no more than is needed is listed
        names = (entry.name for entry in entries if entry.name.endswith(ARRAYS) and not is_hidden(entry.name))
        found = sorted(islice(names, FILES + 1))
    return [stamp(folder, "")] if len(found) > FILES else [stamp(folder / name, ascii(name)) for name in found]


def below(folder: Path) -> Iterator[Path]:
    """All that is below a folder, except what is hidden; links to folders are not followed."""
    for path in folder.iterdir():
        if not is_hidden(path.name):
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from below(path)


def stamp(path: Path, name: str) -> list:
    status = path.stat()
    return [name, status.st_size if path.is_file() else 0, status.st_mtime_ns]
