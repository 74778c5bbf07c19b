"""Linear probe heads: many at once, as one batched problem whose members do not interact.

A head is a linear softmax classifier on frozen features. Heads differ in their features (cells of the grid: noise level
and tap), in their learning rate, and in their seed, which decides the order of the batches and, where seeds have tables
of their own, the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.linear import Linear
from diffprobe.evaluation.representation.descent import held_tables, row_streams, steps
from diffprobe.evaluation.representation.optimizers import OPTIMIZERS, Update
from diffprobe.evaluation.representation.predictors import Setting
from diffprobe.evaluation.representation.standardise import BatchScale, FixedScale, standardised, statistics
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.keyed import Key, normal, uniform


@dataclass(frozen=True)
class Group:
    """Adjacent cells of one width, and their heads."""

    cells: int
    columns: slice
    weight: Tensor  # (S C, H, K, D): seeds and cells, rates, classes, features
    bias: Tensor  # (S C, H, K, 1)

    def select(self, x: Tensor) -> Tensor:
        """The group's features: (S, B, all columns) to (S C, B, D)."""
        s, b, _ = x.shape
        return x[..., self.columns].view(s, b, self.cells, -1).transpose(1, 2).flatten(0, 1)

    def probabilities(self, h: Tensor) -> Tensor:
        """(S C, B, D) to (S C, H, K, B)."""
        bias, weight = self.bias.flatten(1, 2), self.weight.flatten(1, 2)  # (S C, H K, ..)
        logits = torch.baddbmm(bias, weight, h.transpose(1, 2))  # (S C, H K, B)
        # A softmax over another than the last dimension is several times faster on a CPU, where K is small.
        return logits.unflatten(1, self.weight.shape[1:3]).softmax(2)


@dataclass(frozen=True)
class LinearHeads:
    """Fitted heads of S seeds, C cells and H learning rates, with the standardisation that they were fitted under."""

    groups: list[Group]
    mean: Tensor  # (S, 1, all columns)
    std: Tensor  # (S, 1, all columns)
    settings: list[Setting]
    averages_features = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (S, n, all columns) to probabilities (S, C, H, n, K)."""
        x = standardised(x, self.mean, self.std)
        by_group = []
        for group in self.groups:
            p = group.probabilities(group.select(x))  # (S C, H, K, n)
            by_group.append(p.transpose(2, 3).unflatten(0, (len(x), group.cells)))  # (S, C, H, n, K)
        return torch.cat(by_group, dim=1)


def fit(
    settings: Linear, tables: Sequence[Table], seeds: Sequence[int], classes: int, memory: float, device: torch.device
) -> LinearHeads:
    """Fit a head for every seed, cell and learning rate; the tables of the seeds differ in their noise alone.

    The loss is the mean cross-entropy over a head's batch. Gradients do not mix, and the optimisers work by element
    (LARS by head), so each head is what it would be alone, within rounding.
    `memory` bounds the bytes of features held; where they exceed it, rows are shuffled within windows of chunks.
    """
    widths = tables[0].widths
    tables = held_tables(tables, memory)
    scale = scaling(settings, tables, device)
    groups = new_groups(widths, seeds, classes, settings, device)
    streams = row_streams(tables, seeds, memory, device)
    rates = torch.tensor(settings.lr, device=device)[:, None, None]  # (H, 1, 1)
    parameters = [parameter for group in groups for parameter in (group.weight, group.bias)]
    update = OPTIMIZERS[settings.optimizer](parameters, rates, settings)
    state = [*parameters, *update.state, *scale.state]
    for start, stop, factor in steps(settings, len(tables[0].labels), state):
        # (S, B, W) and (S, B)
        x, y = (torch.stack(part) for part in zip(*(stream.read(start, stop) for stream in streams), strict=True))
        normed = torch.cat([scale(part) for part in x.split(settings.norm_batch or len(x[0]), dim=1)], dim=1)
        step(groups, normed, y, classes, update, factor)
    return LinearHeads(groups, scale.mean, scale.std, [{"lr": lr} for lr in settings.lr])


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
        gradient = group.probabilities(h).sub_(target).div_(x.shape[1])  # (S C, H, K, B)
        of_weight = torch.bmm(gradient.flatten(1, 2), h).view_as(group.weight)  # (S C, H, K, D)
        update(group.weight, of_weight, factor, True)
        update(group.bias, gradient.sum(3, keepdim=True), factor, False)


def new_groups(
    widths: Sequence[int], seeds: Sequence[int], classes: int, settings: Linear, device: torch.device
) -> list[Group]:
    """Groups of adjacent cells of equal width, with their initial weights."""
    groups: list[Group] = []
    start, rates = 0, len(settings.lr)
    for width, adjacent in groupby(widths):
        cells = len(list(adjacent))
        weight = torch.zeros(len(seeds), cells, rates, classes, width + 1, device=device)  # the bias last
        for of_seed, seed in zip(weight, seeds, strict=True):
            of_seed += initial(settings, seed, classes, width).to(device)  # the same for all cells and rates
        whole = weight.flatten(0, 1)  # (S C, H, K, D + 1)
        columns = slice(start, start + width * cells)
        groups.append(Group(cells, columns, whole[..., :-1].clone(), whole[..., -1:].clone()))
        start += width * cells
    return groups


def initial(settings: Linear, seed: int, classes: int, width: int) -> Tensor:
    """Initial weights and, last, bias of a head: (K, D + 1)."""
    key, row = Key(seed, "probe-weights"), torch.arange(1)
    if settings.initial == "uniform":
        return (2 * uniform(key, row, (classes, width + 1))[0] - 1) * width**-0.5
    if settings.optimizer == "lars":  # scales its step by the norm of the weights: at zero it never moves
        return F.pad(0.01 * normal(key, row, (classes, width))[0], (0, 1))
    return torch.zeros(classes, width + 1)
