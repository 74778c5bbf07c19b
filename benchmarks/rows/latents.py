"""Rows of 16 KiB of moments from the page cache in batches of 256: our store beside a mapped array in full shuffle.

One thread, and ours reads ahead in the background. The peer's rows have no checksums and no augmentation labels.
"""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.latents import BATCH, MAPPED, WINDOW, store_of
from benchmarks.plain.mapped import MappedArray, write_array
from benchmarks.row import Agreement, Line, Piece, Row, Setting, Slope
from diffprobe.training.latentstream import Source, open_source

ROWS = 30_000  # 0.46 GiB, twice: the store and the peer's array


def prepare(setting: Setting) -> None:
    write_array(array_of(setting.folder), store_of(setting.folder, ROWS))


def array_of(folder: Path) -> Path:
    return folder / "moments.npy"


def source_of(folder: Path, rows: int) -> Source:
    """As training opens a store that the page cache can hold."""
    source, held = open_source(store_of(folder, rows), ["train"], 0, torch.device("cpu"), WINDOW, MAPPED, BATCH)
    assert "mapped" in held, f"{held}: too little memory is available for {rows} rows"
    return source


def ours(setting: Setting) -> Piece:
    torch.set_num_threads(1)
    source, epochs = source_of(setting.folder, ROWS), count()

    def piece() -> float:
        for epoch in [next(epochs) for _ in range(setting.amount)]:
            for position in range(epoch * ROWS, (epoch + 1) * ROWS, BATCH):
                source.read(position, min(position + BATCH, (epoch + 1) * ROWS))
        return setting.amount * ROWS

    for _ in range(2):  # the first epoch compares checksums, the second maps the pages
        piece()
    return piece


def plain(setting: Setting) -> Piece:
    torch.set_num_threads(1)
    mapped, epochs = MappedArray(array_of(setting.folder)), count()

    def piece() -> float:
        for epoch in [next(epochs) for _ in range(setting.amount)]:
            order = mapped.order(epoch)
            for start in range(0, ROWS, BATCH):
                mapped.batch(order[start : start + BATCH])
        return setting.amount * ROWS

    for _ in range(2):
        piece()
    return piece


def check(tiny: bool) -> list[Agreement]:
    """Two epochs of ours hold every row of the array once, as it is there: as first read, and from the mapping."""
    rows = 1024 if tiny else 4096
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_array(array_of(folder), store_of(folder, rows))
        mapped, source, wrong = MappedArray(array_of(folder)), source_of(folder, rows), 0
        for epoch in (0, 1):
            seen = []
            for position in range(epoch * rows, (epoch + 1) * rows, BATCH):
                moments, labels, _ = source.read(position, position + BATCH)
                expected, _ = mapped.batch(labels.numpy())
                wrong += int((moments != expected).flatten(1).any(1).sum())
                seen.append(labels.numpy())
            wrong += int((np.sort(np.concatenate(seen)) != np.arange(rows)).sum())
    return [Agreement("rows", wrong, 0)]


ROW = Row(
    lines=(Line("latents, 16 KiB rows, warm, beside a mapped array in full shuffle", must=0.8, go=1.0),),
    sides={"plain": plain, "ours": ours},
    check=check,
    amount=2,
    unit="rows/s",
    rounds=9,
    prepare=prepare,
    slope=Slope("epochs", 2, 20),
)
