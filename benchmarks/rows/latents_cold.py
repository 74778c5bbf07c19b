"""The same rows after the kernel has dropped their pages (posix_fadvise), in a new process each time, since pages that
a process has mapped stay. The peer reads 20 random batches, ours an epoch.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.latents import BATCH, drop
from benchmarks.plain.mapped import MappedArray
from benchmarks.row import Line, Piece, Row, Setting
from benchmarks.rows.latents import ROWS, array_of, check, prepare, source_of
from diffprobe.latents.mapped import in_page_cache

BATCHES = 20


def ours(setting: Setting) -> Piece:
    torch.set_num_threads(1)
    dropped(setting.folder)

    def piece() -> float:
        source = source_of(setting.folder, ROWS)
        for position in range(0, ROWS, BATCH):
            source.read(position, min(position + BATCH, ROWS))
        return ROWS

    return piece


def plain(in_order: bool) -> Callable[[Setting], Piece]:
    """`in_order`: the rows of each batch in the order of the file."""

    def prepared(setting: Setting) -> Piece:
        torch.set_num_threads(1)
        dropped(setting.folder)
        mapped = MappedArray(array_of(setting.folder))
        order = np.random.default_rng().permutation(ROWS)[: BATCHES * BATCH]

        def piece() -> float:
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                mapped.batch(np.sort(rows) if in_order else rows)
            return len(order)

        return piece

    return prepared


def dropped(folder: Path) -> None:
    drop(folder)
    with array_of(folder).open("rb") as file:
        middle = os.fstat(file.fileno()).st_size // 2
        if in_page_cache(file.fileno(), middle, 2**20):
            print("pages stay in memory here: this is not cold", file=sys.stderr)


ROW = Row(
    lines=(
        Line("latents, 16 KiB rows, cold", must=4, go=10),
        Line("latents, 16 KiB rows, cold, the peer's batches sorted", must=4, go=10, plain="plain_sorted"),
    ),
    sides={"plain": plain(False), "plain_sorted": plain(True), "ours": ours},
    check=check,
    amount=1,
    unit="rows/s",
    rounds=3,
    warm=False,
    fresh=True,
    prepare=prepare,
)
