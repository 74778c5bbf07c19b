"""Linear probe heads: many at once, as one batched problem whose members do not interact.

A head is a linear softmax classifier on frozen features. Heads differ in their features (cells of the grid: noise level
and tap), in their learning rate, and in their seed, which decides the order of the batches and, where seeds have tables
of their own, the noise.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from diffprobe.config.evaluators.linear import Linear
from diffprobe.data.rows import Rows
from diffprobe.data.window_stream import WindowStream
from diffprobe.evaluation.representation.chunks import BLOCK
from diffprobe.evaluation.representation.optimizers import OPTIMIZERS, Update
from diffprobe.evaluation.representation.predictors import Setting
from diffprobe.evaluation.representation.standardise import BatchScale, FixedScale, standardised, statistics
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.keyed import Key, normal


@dataclass(frozen=True)
class Group:
    """Adjacent cells of one width, and their heads."""

    cells: int
    columns: slice
    weight: Tensor  # (S C, H K, D): seeds and cells, rates and classes, features
    bias: Tensor  # (S C, H K, 1)

    def select(self, x: Tensor) -> Tensor:
        """The group's features: (S, B, all columns) to (S C, B, D)."""
        s, b, _ = x.shape
        return x[..., self.columns].view(s, b, self.cells, -1).transpose(1, 2).flatten(0, 1)

    def probabilities(self, h: Tensor, classes: int) -> Tensor:
        """(S C, B, D) to (S C, H, K, B)."""
        logits = torch.baddbmm(self.bias, self.weight, h.transpose(1, 2))  # (S C, H K, B)
        # A softmax over another than the last dimension is several times faster on a CPU, where K is small.
        return logits.unflatten(1, (-1, classes)).softmax(2)


@dataclass(frozen=True)
class LinearHeads:
    """Fitted heads of S seeds, C cells and H learning rates, with the standardisation that they were fitted under."""

    groups: list[Group]
    mean: Tensor  # (S, 1, all columns)
    std: Tensor  # (S, 1, all columns)
    classes: int
    settings: list[Setting]
    averages_features = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (S, n, all columns) to probabilities (S, C, H, n, K)."""
        x = standardised(x, self.mean, self.std)
        by_group = []
        for group in self.groups:
            p = group.probabilities(group.select(x), self.classes)  # (S C, H, K, n)
            by_group.append(p.transpose(2, 3).unflatten(0, (len(x), group.cells)))  # (S, C, H, n, K)
        return torch.cat(by_group, dim=1)


def fit(
    settings: Linear, tables: Sequence[Table], seeds: Sequence[int], classes: int, memory: float, device: torch.device
) -> LinearHeads:
    """Fit a head for every seed, cell and learning rate; the tables of the seeds differ in their noise alone.

    The loss is the mean cross-entropy over a head's batch. Gradients do not mix, and the optimisers work by element
    (LARS by head), so each head is what it would be alone, within rounding. The last batch of an epoch may be short.
    `memory` bounds the bytes of features held; where they exceed it, rows are shuffled within windows of chunks.
    """
    widths = tables[0].widths
    distinct = {table.key: table for table in tables}  # a table that seeds share is held once
    distinct = {key: table.within(memory / 2 / len(distinct)) for key, table in distinct.items()}
    tables = [distinct[table.key] for table in tables]
    scale = scaling(settings, tables, device)
    groups = new_groups(widths, seeds, classes, settings, device)
    # A table that is held has used half of the memory already, so the windows share what is left.
    share = memory / len(tables) * (1 / 4 if tables[0].held is not None else 3 / 4)
    streams = [row_stream(table, seed, share, device) for table, seed in zip(tables, seeds, strict=True)]
    rates = torch.tensor(settings.lr, device=device).repeat_interleave(classes)[:, None]  # (H K, 1)
    parameters = [parameter for group in groups for parameter in (group.weight, group.bias)]
    update = OPTIMIZERS[settings.optimizer](parameters, rates, classes, settings)
    n = len(tables[0].labels)
    steps_per_epoch = -(-n // settings.batch)
    steps = settings.epochs * steps_per_epoch
    for i in range(steps):
        epoch, step_of_epoch = divmod(i, steps_per_epoch)
        # Positions in the endless stream; an epoch's last batch ends where the epoch does.
        start = epoch * n + step_of_epoch * settings.batch
        stop = min(start + settings.batch, (epoch + 1) * n)
        # (S, B, W) and (S, B)
        x, y = (torch.stack(part) for part in zip(*(stream.read(start, stop) for stream in streams), strict=True))
        # Cosine annealing to zero (Loshchilov and Hutter 2017, eq. 5, without restarts).
        progress = epoch / settings.epochs if settings.cosine == "epoch" else i / steps
        step(groups, scale(x), y, classes, update, (1 + math.cos(math.pi * progress)) / 2)
    return LinearHeads(groups, scale.mean, scale.std, classes, [{"lr": lr} for lr in settings.lr])


def scaling(settings: Linear, tables: Sequence[Table], device: torch.device) -> FixedScale | BatchScale:
    """How features are standardised. Seeds have statistics of their own, since each has other noise."""
    width = sum(tables[0].widths)
    if settings.standardise == "batch_norm":
        return BatchScale(len(tables), width, device)
    if not settings.standardise:
        return FixedScale(*(torch.full((len(tables), 1, width), value, device=device) for value in (0.0, 1.0)))
    distinct = {table.key: table for table in tables}
    moments = {key: statistics(table, device) for key, table in distinct.items()}
    return FixedScale(*(torch.stack([moments[table.key][i] for table in tables])[:, None] for i in (0, 1)))


def step(groups: Sequence[Group], x: Tensor, y: Tensor, classes: int, update: Update, factor: float) -> None:
    """One step of every head: x (S, B, all columns) standardised, y (S, B), `factor` on all learning rates.

    The gradient of the mean cross-entropy with respect to the logits is (softmax - one-hot) / B. It is written out
    since autograd would keep every intermediate of hundreds of heads.
    """
    one_hot = (torch.arange(classes, device=y.device)[:, None] == y[:, None]).float()  # (S, K, B)
    for group in groups:
        h = group.select(x)  # (S C, B, D)
        target = one_hot.repeat_interleave(group.cells, 0)[:, None]  # (S C, 1, K, B)
        gradient = group.probabilities(h, classes).sub_(target).flatten(1, 2).div_(x.shape[1])  # (S C, H K, B)
        update(group.weight, torch.bmm(gradient, h), factor, True)
        update(group.bias, gradient.sum(2, keepdim=True), factor, False)


def new_groups(
    widths: Sequence[int], seeds: Sequence[int], classes: int, settings: Linear, device: torch.device
) -> list[Group]:
    """Groups of adjacent cells of equal width, their weights zero or, for LARS, small noise."""
    groups: list[Group] = []
    start, rates = 0, len(settings.lr)
    for width, adjacent in groupby(widths):
        cells = len(list(adjacent))
        weight = torch.zeros(len(seeds), cells, rates, classes, width, device=device)
        if settings.optimizer == "lars":  # scales its step by the norm of the weights: at zero it never moves
            for of_seed, seed in zip(weight, seeds, strict=True):
                noise = normal(Key(seed, "probe-weights"), torch.arange(1), (classes, width))
                of_seed += 0.01 * noise.to(device)  # the same for all cells and rates
        flat = weight.flatten(0, 1).flatten(1, 2)  # (S C, H K, D)
        bias = torch.zeros(len(flat), rates * classes, 1, device=device)
        groups.append(Group(cells, slice(start, start + width * cells), flat, bias))
        start += width * cells
    return groups


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
    chunks = int(memory / 2 / (BLOCK * table.row_bytes))
    return WindowStream(TableChunks(table), seed, max(1, min(chunks, len(table.sizes))), device)
