"""Chunks of the store of features, read and compared with their checksums."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from diffprobe.runtime.errors import UserError

MARK = "features.json"  # in a folder of features that is whole
BLOCK = 1024  # rows of a chunk


def array(folder: Path, level: str, split: str, kind: str, name: str) -> zarr.Array:
    """One array (draws, N, D) of a finished folder. Raises UserError where it is not there."""
    path = folder / f"{level}.zarr" / split / kind / name
    try:
        return zarr.open_array(str(path), mode="r")
    except Exception as error:
        raise UserError(f"{path}: features cannot be read ({error}); delete {folder} and run again") from None


def read_chunk(stored: Any, path: Path | None, draw: int, rows: slice) -> np.ndarray:
    """Rows (n, D) that lie in one chunk. Raises UserError that names the chunk where it is not what was written."""
    chunk = path and path / "c" / str(draw) / str(rows.start // BLOCK) / "0"
    try:
        if chunk and not chunk.exists():  # zarr would take it for zeros
            raise FileNotFoundError("it is missing")
        return np.asarray(stored[draw, rows])
    except Exception as error:
        remedy = f"delete {chunk.parents[7]} and run again" if chunk else "write it again"
        raise UserError(f"{chunk}: damaged ({error}); {remedy}") from None


def damage(folder: Path) -> list[str]:
    """Every chunk read and compared with its checksum: a line for each that is damaged or missing."""
    lines = []
    for path in sorted(folder.glob("*.zarr/*/*/*")):
        try:
            found = zarr.open_array(str(path), mode="r")
        except Exception as error:  # what is no array
            lines.append(f"{path}: {error}")
            continue
        for draw in range(found.shape[0]):
            for start in range(0, found.shape[1], BLOCK):
                try:
                    read_chunk(found, path, draw, slice(start, min(start + BLOCK, found.shape[1])))
                except UserError as error:
                    lines.append(str(error).partition(" (")[0])
    return lines
