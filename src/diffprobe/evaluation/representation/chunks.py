"""Folders of stored features: opened, and searched for damage."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import zarr

from diffprobe.runtime.arrays import damaged_chunks, open_array
from diffprobe.runtime.errors import AccessError, UserError
from diffprobe.runtime.results import read_result

MANIFEST = "features.json"  # in a folder of features that is whole
CHANNELS = "channels"  # attribute of an array: the length of a token, or of a row that is a single vector
BLOCK = 1024  # rows of a chunk
CHUNK_BYTES = 2**25  # of a chunk whose rows are wide, such as those of all tokens of an image
REMEDY = "delete the folder of features and run again"


class StoredLevel(NamedTuple):
    """A noise level with features; levels sort by their noise."""

    sigma: float  # sigma/alpha
    log_snr: float  # infinite for clean images; null in files
    name: str
    folder: Path


def stored_levels(folder: Path) -> list[StoredLevel]:
    """The levels of a finished folder. Raises UserError where its manifest is damaged."""

    def levels(manifest: Any) -> list[StoredLevel]:
        several = manifest["levels"].items()
        if not several:
            raise ValueError("it has no levels")
        return [StoredLevel(level["sigma"], log_snr(level), name, folder) for name, level in several]

    def log_snr(level: Any) -> float:
        return math.inf if level["sigma"] == 0 else level["log_snr"]

    return read_result(folder / MANIFEST, levels)


def array(folder: Path, level: str, split: str, view: str, name: str) -> zarr.Array:
    """One array (draws, N, D) of a finished folder. Raises UserError where it is missing or damaged."""
    path = folder / f"{level}.zarr" / split / view / name
    stored = open_array(path, REMEDY)
    draws = len(list((path / "c").glob("*")))  # a folder each
    whole = stored.ndim == 3 and stored.shape[2] > 0
    if not whole or (draws, *stored.chunks) != (stored.shape[0], *chunk_shape(*stored.shape[1:])):
        raise UserError(f"{path}: its shape {stored.shape} in chunks of {stored.chunks} is damaged; {REMEDY}")
    return stored


def chunk_shape(n: int, width: int) -> tuple[int, int, int]:
    """Of features (draws, n, width)."""
    return 1, min(block_rows(width), n), width


def block_rows(width: int) -> int:
    """Rows of a chunk of float16 features of this width: BLOCK, or a smaller power of two that keeps within
    CHUNK_BYTES.
    """
    within = max(1, CHUNK_BYTES // (2 * width))
    return min(BLOCK, 2 ** (within.bit_length() - 1))


def damage(folder: Path) -> list[str]:
    """Every chunk read and compared with its checksum: a line for each that is damaged or missing.

    Raises UserError where the manifest is damaged.
    """
    stored_levels(folder)
    lines: list[str] = []
    for path in sorted(folder.glob("*.zarr/*/*/*")):
        try:
            level, split, view, name = path.relative_to(folder).parts
            lines += damaged_chunks(array(folder, level.removesuffix(".zarr"), split, view, name))
        except AccessError:
            raise
        except UserError as error:
            lines.append(str(error))
    return lines
