"""The store of features: a folder of {level}.zarr/{split}/{augmented|identity}/{tap}, float16 (draws, N_split, D).

Row i is the split's i-th image. The arrays are zarr v3, each chunk with its crc32c. A level's zarr.json is written
last, with what it was made from, so that a stopped job goes on with the next level; the folder's features.json marks
the whole.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from diffprobe.diffusion.levels import Level
from diffprobe.evaluation.representation.chunks import BLOCK, MARK
from diffprobe.evaluation.representation.features import Extractor, Wanted
from diffprobe.evaluation.representation.inputs import Inputs
from diffprobe.runtime.files import atomic, read_json, remove, write_json

AHEAD = 4  # blocks that may wait to be written
Written = Callable[[int], object]


class Copies(NamedTuple):
    """Noisy copies of the images of a split."""

    split: str
    kind: str  # identity or augmented
    draws: int


def write_level(
    path: Path,
    source: Extractor,
    data: Mapping[str, Inputs],
    level: Level,
    wanted: Wanted,
    copies: Sequence[Copies],
    identity: str,
    report: Written,
    purpose: str = "features",
) -> str:
    """The store of one level, whole or not at all; the one that is there, if `identity` made it. Returns its content's
    hash. `report` hears the number of images.
    """
    if (found := content(path, identity)) is not None:
        report(sum(copy.draws * len(data[copy.split].rows) for copy in copies))
        return found
    hashed = hashlib.sha256()
    with atomic(path) as store, ThreadPoolExecutor(1) as pool:
        waiting: list[Future] = []
        for split, kind, draws in copies:
            shape = (draws, len(data[split].rows))
            for draw in range(draws):
                for rows, found in source.blocks(data[split], level, wanted, purpose, draw, kind == "augmented"):
                    values = {name: x.half().cpu().numpy() for name, x in found.items()}
                    waiting.append(pool.submit(write_block, store / split / kind, values, shape, draw, rows, hashed))
                    if len(waiting) > AHEAD:
                        waiting.pop(0).result()
                    report(rows.stop - rows.start)
        for one in waiting:
            one.result()
        zarr.create_group(str(store), attributes={"identity": identity, "content": hashed.hexdigest()})
    return hashed.hexdigest()


def write_block(
    folder: Path, values: Mapping[str, np.ndarray], shape: tuple[int, int], draw: int, rows: slice, hashed: Any
) -> None:
    """Rows of one draw of every tap, name to float16 (n, D), into arrays of `shape` (draws, N)."""
    for name, stored in values.items():
        path = folder / name
        array = zarr.open_array(str(path), mode="r+") if path.exists() else create(path, (*shape, stored.shape[1]))
        array[draw, rows] = stored
        hashed.update(stored.tobytes())


def create(path: Path, shape: tuple[int, int, int]) -> zarr.Array:
    """An array (draws, N, D) in chunks of a block, each with its checksum. Features hardly compress."""
    chunks = (1, min(BLOCK, shape[1]), shape[2])
    codecs = {"serializer": BytesCodec(), "compressors": [Crc32cCodec()]}
    codecs |= {"config": {"write_empty_chunks": True}}  # a chunk that is missing is damage, never zeros
    return zarr.create_array(store=str(path), shape=shape, chunks=chunks, dtype="float16", **codecs)


def content(path: Path, identity: str) -> str | None:
    """The hash of a level's content, if it is whole and was made from the same."""
    try:
        found = read_json(path / "zarr.json")["attributes"]
        return found["content"] if found["identity"] == identity else None
    except (OSError, KeyError, ValueError):
        return None


def finish(partial: Path, folder: Path, levels: Sequence[Level], marks: Mapping[str, Any]) -> None:
    """Mark a folder of levels as whole and give it its name; other levels that lie there are removed."""
    for path in partial.glob("*.zarr"):
        if path.stem not in {level.name for level in levels}:
            shutil.rmtree(path)
    known = {level.name: {"sigma": level.ratio, "log_snr": level.log_snr} for level in levels}
    write_json(partial / MARK, {"levels": known, **marks})
    remove(folder)
    partial.rename(folder)
