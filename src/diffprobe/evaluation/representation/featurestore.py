"""The store of features: a folder of {level}.zarr/{split}/{augmented|identity}/{tap}, float16 (draws, N_split, D).

Row i is the split's i-th image; where all its tokens are stored, they lie side by side. The arrays are zarr v3, each
chunk with its crc32c. A level's zarr.json is written last, with what it was made from; until then a log of its blocks
says from where a stopped job goes on. The folder's features.json marks the whole.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import zarr
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.evaluation.representation import blocklog
from diffprobe.evaluation.representation.blocklog import Block, BlockLog
from diffprobe.evaluation.representation.chunks import CHANNELS, MANIFEST, chunk_shape
from diffprobe.evaluation.representation.features import ArraySpecs, FeatureModel, Pass, refuse_non_finite
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.runtime.arrays import create_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import recorded, write_json
from diffprobe.runtime.removal import remove_store

AHEAD = 4  # blocks that may wait for the writer
# The files of a level's store, and of a folder of levels, as patterns for `runtime.removal`.
ARRAY = r"(train|select|test)/(identity|augmented)/.+"
HALF_WRITTEN = r"\w+\.[0-9a-f]{32}\.partial"  # what zarr calls a file that it is writing
WHOLE = ("zarr.json", f"{ARRAY}/zarr.json", rf"{ARRAY}/c/\d+/\d+/\d+")
LEVEL = (*WHOLE, blocklog.NAME, *(f"{path.rpartition('/')[0]}/{HALF_WRITTEN}".lstrip("/") for path in WHOLE))
FOLDER = (MANIFEST, r"\.snakemake_timestamp", *(rf"[\w.+-]+\.zarr/{path}" for path in LEVEL))


class Copies(NamedTuple):
    """Noisy copies of the images of a split."""

    split: str
    view: str  # identity or augmented
    draws: int


def without_repeats(
    copies: Sequence[Copies], model: FeatureModel, level: Level, data: Mapping[str, ModelInputs]
) -> list[Copies]:
    """One copy of each view of an unaugmented image where the model is shown no noise; another would be the same."""

    def draws(copy: Copies) -> int:
        repeats = copy.view == "identity" and not model.is_shown_noise(level) and not data[copy.split].sampled
        return min(copy.draws, data[copy.split].views) if repeats else copy.draws

    return [copy._replace(draws=draws(copy)) for copy in copies]


def images_in_all(copies: Sequence[Copies], data: Mapping[str, ModelInputs]) -> int:
    return sum(copy.draws * len(data[copy.split].rows) for copy in copies)


class Source(Protocol):
    """A network as a source of features."""

    def blocks(self, data: ModelInputs, of: Pass) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """See `FeatureModel.blocks`."""


def write_level(
    path: Path,
    model: Source,
    data: Mapping[str, ModelInputs],
    level: Level,
    specs: ArraySpecs,
    copies: Sequence[Copies],
    identity: str,
    report: Callable[[int], object],
    purpose: str = "features",
) -> str:
    """Write the store of one level, and return the hash of its content.

    A store that `identity` made already is kept, and one that it has begun is completed. `report` is called with
    numbers of finished images.
    """
    if (stored := content(path, identity)) is not None:
        blocklog.remove(path)
        report(images_in_all(copies, data))
        return stored
    written = unfinished(path, identity)
    try:
        write_blocks(path, written, model, data, level, specs, copies, report, purpose)
    except UserError:  # of an input that is refused: what is begun is of no use
        remove_store(path, LEVEL)
        raise
    zarr.create_group(str(path), attributes={"identity": identity, "content": written.content()})
    blocklog.remove(path)
    return written.content()


def unfinished(path: Path, identity: str) -> BlockLog:
    """The log of the store that `identity` has begun, or of a new one in the place of another."""
    log = BlockLog.resumed(path, identity)
    if log is None:
        remove_store(path, LEVEL)
        return BlockLog.begun(path, identity)
    for partial in path.rglob("*.partial"):
        if re.fullmatch(HALF_WRITTEN, partial.name):
            partial.unlink()  # a kill left it
    return log


def write_blocks(
    path: Path,
    written: BlockLog,
    model: Source,
    data: Mapping[str, ModelInputs],
    level: Level,
    specs: ArraySpecs,
    copies: Sequence[Copies],
    report: Callable[[int], object],
    purpose: str,
) -> None:
    """Write the blocks that are not written yet, and log each."""
    gap = False

    def store(split: str, view: str, values: Any, shape: tuple[int, int], draw: int, rows: slice) -> None:
        nonlocal gap
        if gap:  # the log would say that all blocks before this one are written
            return
        gap = True
        hashed = write_block(path / split / view, values, shape, draw, rows)
        written.add(Block(split, view, draw, rows.stop, hashed))
        gap = False

    # A single writer thread: the device computes on while blocks are compressed, and their order is fixed.
    with ThreadPoolExecutor(1) as pool:
        pending: list[Future] = []
        for split, view, draws in copies:
            shape = (draws, len(data[split].rows))
            for draw in range(draws):
                if first := written.rows(split, view, draw):
                    report(first)
                of = Pass(level, specs, purpose, draw, view == "augmented", first)
                for rows, features in model.blocks(data[split], of):
                    halves = {name: x.half() for name, x in features.items()}
                    refuse_non_finite(halves, data[split].rows[rows], level, "exceed float16, as stored,")
                    values = {name: x.cpu().numpy() for name, x in halves.items()}
                    pending.append(pool.submit(store, split, view, values, shape, draw, rows))
                    if len(pending) > AHEAD:
                        pending.pop(0).result()
                    report(rows.stop - rows.start)
        for block in pending:
            block.result()


def write_block(folder: Path, values: Mapping[str, np.ndarray], shape: tuple[int, int], draw: int, rows: slice) -> str:
    """Rows of one draw of every tap, name to float16 (n, D) or (n, T, D), into arrays of `shape` (draws, N); returns
    their hash.
    """
    hashed = hashlib.sha256()
    for name, stored in values.items():
        path, side_by_side = folder / name, stored.reshape(len(stored), -1)  # (n, T D)
        if (path / "zarr.json").exists():
            array = zarr.open_array(str(path), mode="r+")
        else:
            array = create(path, (*shape, side_by_side.shape[1]), stored.shape[-1])
        array[draw, rows] = side_by_side
        hashed.update(stored.tobytes())
    return hashed.hexdigest()


def create(path: Path, shape: tuple[int, int, int], channels: int) -> zarr.Array:
    """An array (draws, N, D) in chunks of a block, with the length of a token as an attribute."""
    options = {"chunks": chunk_shape(*shape[1:]), "dtype": "float16", "attributes": {CHANNELS: channels}}
    # Zeros are written too, so that a missing chunk is always damage.
    return create_array(str(path), shape=shape, config={"write_empty_chunks": True}, **options)


def content(path: Path, identity: str) -> str | None:
    """The hash of a level's content; None unless the level is whole and `identity` made it."""
    made_by, stored = (recorded(path / "zarr.json", "attributes", key) for key in ("identity", "content"))
    return stored if made_by == identity else None


def finish(partial: Path, folder: Path, levels: Sequence[Level], attributes: Mapping[str, Any]) -> None:
    """Mark a folder of levels as whole and move it to its final name, without the levels of an earlier run.

    Raises UserError where the folder to be replaced holds files that are not ours.
    """
    for path in partial.glob("*.zarr"):
        if path.stem not in {level.name for level in levels}:
            remove_store(path, LEVEL)
    by_name = {
        level.name: {"sigma": level.ratio, "log_snr": level.log_snr if level.sigma else None} for level in levels
    }
    write_json(partial / MANIFEST, {"levels": by_name, **attributes})
    remove_store(folder, FOLDER)
    partial.rename(folder)
