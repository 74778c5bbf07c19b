"""What heads that are trained by gradient descent share: the order of images, and the learning rate over the steps."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.config.evaluators.trained import Trained
from diffprobe.data.rows import Rows
from diffprobe.data.window_stream import WindowStream
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime import autosave
from diffprobe.runtime.autosave import Autosave
from diffprobe.runtime.errors import UserError


class Step(NamedTuple):
    """A batch, as positions [start, stop) in the endless stream of images, and the factor on all learning rates."""

    start: int
    stop: int
    factor: float


def steps(settings: Trained, n: int, state: Sequence[Tensor] = ()) -> Iterator[Step]:
    """All steps on n images. An epoch's last batch ends where the epoch does. Raises UserError if there are none.

    `state` is all that a step changes: parameters, and what optimiser and normalisation remember. In a job that saves
    its computations, it is saved as the steps go by; a killed job begins with those that are left, and its `state` is
    what it was.
    """
    per_epoch = n // settings.batch if settings.drop_last else -(-n // settings.batch)
    if per_epoch == 0:
        raise UserError(f"batch {settings.batch:,} with drop_last: there are only {n:,} images; use a smaller batch")
    saved, last = autosave.own(), settings.epochs * per_epoch
    for i in range(resumed(saved, state), last):
        epoch, step_of_epoch = divmod(i, per_epoch)
        start = epoch * n + step_of_epoch * settings.batch
        stop = min(start + settings.batch, (epoch + 1) * n)
        yield Step(start, stop, rate_factor(epoch if settings.cosine == "epoch" else i / per_epoch, settings))
        autosave.note(f"{i + 1:,} of {last:,} steps")
        if saved:
            saved.offer(partial(kept, state, i + 1))
    if saved:
        saved.finish(partial(kept, state, last))


def kept(state: Sequence[Tensor], done: int) -> dict[str, Tensor]:
    """What is saved after `done` steps."""
    return {"steps": torch.tensor(done)} | {f"state.{i}": each.detach() for i, each in enumerate(state)}


def resumed(saved: Autosave | None, state: Sequence[Tensor]) -> int:
    """The number of steps that a killed job has made, its state copied into `state`."""
    before = saved.read() if saved else {}
    if not before:
        return 0
    with torch.no_grad():
        for i, each in enumerate(state):
            each.copy_(before[f"state.{i}"])
    return int(before["steps"])


def rate_factor(epoch: float, settings: Trained) -> float:
    """Linear warm-up, then cosine annealing to zero (Loshchilov and Hutter 2017, eq. 5, without restarts)."""
    if epoch < settings.warmup:
        return epoch / settings.warmup
    progress = (epoch - settings.warmup) / (settings.epochs - settings.warmup)
    return (1 + math.cos(math.pi * progress)) / 2


def held_tables(tables: Sequence[Table], memory: float) -> list[Table]:
    """The tables of the seeds, held in memory where half of `memory` (bytes) suffices; one that seeds share is held
    once.
    """
    distinct = {table.key: table for table in tables}
    held = {key: table.within(memory / 2 / len(distinct)) for key, table in distinct.items()}
    return [held[table.key] for table in tables]


def row_streams(
    tables: Sequence[Table], seeds: Sequence[int], memory: float, device: torch.device
) -> list[WindowStream]:
    """A stream of rows for each seed, from `held_tables` of the same `memory`."""
    # A table that is held has used half of the memory already, so the windows share what is left.
    share = memory / len(tables) * (1 / 4 if tables[0].held is not None else 3 / 4)
    return [row_stream(table, seed, share, device) for table, seed in zip(tables, seeds, strict=True)]


class TableChunks:
    """A table as the chunks of a stream: epoch e sees copy e mod V of every image."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.sizes: Sequence[int] = table.sizes

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        for number in numbers:
            yield self.table.read(number, epoch % self.table.copies), self.table.chunk_labels(number)


def row_stream(table: Table, seed: int, memory: float, device: torch.device) -> WindowStream:
    """The table's endless stream of rows in random order, with two windows of at most `memory` bytes in all."""
    chunks = int(memory / 2 / (max(table.sizes) * table.row_bytes))
    return WindowStream(TableChunks(table), seed, max(1, min(chunks, len(table.sizes))), device)
