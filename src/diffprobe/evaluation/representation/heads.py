"""Linear probe heads: many at once, as one batched problem whose members do not touch.

A head is a linear softmax classifier on frozen features. Heads differ in their features (cells of the grid: noise level
and tap), in their learning rate, and in their seed, which decides the order of the batches and, where seeds have tables
of their own, the noise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from diffprobe.data.rows import Rows
from diffprobe.data.windows import Windows
from diffprobe.evaluation.representation.chunks import BLOCK
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.keyed import Key, normal

EPS = 1e-5  # the least standard deviation: a constant feature stays out instead of exploding
TRUST = 1e-3  # LARS' coefficient
Update = Callable[[Tensor, Tensor, float, bool], None]  # (parameter, gradient, factor on its rate, is it a weight)


@dataclass(frozen=True)
class Group:
    """Adjacent cells of one width, and their heads."""

    cells: int
    columns: slice
    weight: Tensor  # (S C, H K, D): seeds and cells, rates and classes, features
    bias: Tensor  # (S C, H K, 1)

    def take(self, x: Tensor) -> Tensor:
        """(S, B, all columns) to (S C, B, D)."""
        s, b, _ = x.shape
        return x[..., self.columns].view(s, b, self.cells, -1).transpose(1, 2).flatten(0, 1)

    def probabilities(self, h: Tensor, classes: int) -> Tensor:
        """(S C, B, D) to (S C, H, K, B): a softmax over other than the last dimension is several times faster."""
        logits = torch.baddbmm(self.bias, self.weight, h.transpose(1, 2))  # (S C, H K, B)
        return logits.unflatten(1, (-1, classes)).softmax(2)


@dataclass(frozen=True)
class Heads:
    """Fitted heads of S seeds, C cells and H learning rates, with the standardisation that they were fitted under."""

    groups: list[Group]
    mean: Tensor  # (S, 1, all columns)
    std: Tensor  # (S, 1, all columns)
    classes: int
    settings: list[dict[str, float]]
    of_mean = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (S, n, all columns) to probabilities (S, C, H, n, K)."""
        x, found = scaled(x, self.mean, self.std), []
        for group in self.groups:
            p = group.probabilities(group.take(x), self.classes)  # (S C, H, K, n)
            found.append(p.transpose(2, 3).unflatten(0, (len(x), group.cells)))  # (S, C, H, n, K)
        return torch.cat(found, dim=1)


class Epochs:
    """A table as the chunks of `Windows`: epoch e sees copy e mod V of every image."""

    def __init__(self, table: Table) -> None:
        self.table, self.sizes = table, table.sizes

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        for number in numbers:
            yield self.table.read(number, epoch % self.table.copies), self.table.chunk_labels(number)


def fit_linear(
    tables: Sequence[Table], seeds: Sequence[int], classes: int, options: dict[str, Any], memory: float, device: Any
) -> Heads:
    """Heads for every seed, cell and learning rate; `tables` are those of the seeds, alike but for their noise.

    Cross-entropy is the mean over a head's batch; gradients do not mix, and the optimisers work by the element (LARS by
    the head), so each head is what it would be alone, within rounding. Adjacent cells of one width are fastest. The
    problem is convex and starts from zero (LARS, which divides by the weights' norm, from small noise). The last batch
    of an epoch may be short. `memory` bounds the bytes of features held; where a window of them is less than an epoch,
    only chunks are in random order. `options` as in the config's `Linear`.
    """
    widths = tables[0].widths
    distinct = {table.key: table for table in tables}  # seeds may share one, which is then held once
    distinct = {key: table.within(memory / 2 / len(distinct)) for key, table in distinct.items()}
    plain = torch.zeros(sum(widths), device=device), torch.ones(sum(widths), device=device)
    moments = {key: standardise(table, device) if options["standardise"] else plain for key, table in distinct.items()}
    mean, std = (torch.stack([moments[table.key][i] for table in tables])[:, None] for i in (0, 1))  # (S, 1, W) each
    tables = [distinct[table.key] for table in tables]
    groups = fresh(widths, seeds, classes, options, device)
    share = memory / len(tables) * (1 / 4 if tables[0].held is not None else 3 / 4)
    streams = [windows(table, seed, share, device) for table, seed in zip(tables, seeds, strict=True)]
    rates = torch.tensor(options["lr"], device=device).repeat_interleave(classes)[:, None]  # (H K, 1)
    update = OPTIMIZERS[options["optimizer"]](groups, rates, classes, options)
    n, per_epoch = len(tables[0].labels), -(-len(tables[0].labels) // options["batch"])
    for i in range(options["epochs"] * per_epoch):
        epoch, at = divmod(i, per_epoch)
        start = epoch * n + at * options["batch"]
        stop = min(start + options["batch"], (epoch + 1) * n)
        x, y = (torch.stack(part) for part in zip(*(stream.read(start, stop) for stream in streams), strict=True))
        progress = epoch / options["epochs"] if options["cosine"] == "epoch" else i / (options["epochs"] * per_epoch)
        step(groups, scaled(x, mean, std), y, classes, update, (1 + math.cos(math.pi * progress)) / 2)
    return Heads(groups, mean, std, classes, [{"lr": lr} for lr in options["lr"]])


def step(groups: Sequence[Group], x: Tensor, y: Tensor, classes: int, update: Update, factor: float) -> None:
    """One step of every head: x (S, B, all columns) in units of its standardisation, y (S, B).

    The gradient of the mean cross-entropy by the logits is (softmax - one-hot) / B.
    """
    at = (torch.arange(classes, device=y.device)[:, None] == y[:, None]).float()  # (S, K, B)
    for group in groups:
        h = group.take(x)  # (S C, B, D)
        truth = at.repeat_interleave(group.cells, 0)[:, None]  # (S C, 1, K, B)
        slope = group.probabilities(h, classes).sub_(truth).flatten(1, 2).div_(x.shape[1])  # (S C, H K, B)
        update(group.weight, torch.bmm(slope, h), factor, True)
        update(group.bias, slope.sum(2, keepdim=True), factor, False)


def fresh(
    widths: Sequence[int], seeds: Sequence[int], classes: int, options: dict[str, Any], device: Any
) -> list[Group]:
    """Groups of cells of equal width, with weights of zero or, for LARS, of small noise."""
    groups: list[Group] = []
    start, rates = 0, len(options["lr"])
    for width, adjacent in groupby(widths):
        cells = len(list(adjacent))
        weight = torch.zeros(len(seeds), cells, rates, classes, width, device=device)
        if options["optimizer"] == "lars":
            for of_seed, seed in zip(weight, seeds, strict=True):
                noise = normal(Key(seed, "probe-weights"), torch.arange(1), (classes, width))
                of_seed += 0.01 * noise.to(device)  # the same for all cells and rates
        flat = weight.flatten(0, 1).flatten(1, 2)  # (S C, H K, D)
        bias = torch.zeros(len(flat), rates * classes, 1, device=device)
        groups.append(Group(cells, slice(start, start + width * cells), flat, bias))
        start += width * cells
    return groups


def windows(table: Table, seed: int, memory: float, device: Any) -> Windows:
    """The table's endless stream, with two windows of no more than `memory` bytes in all."""
    fitting = int(memory / 2 / (BLOCK * sum(table.widths) * 2))
    return Windows(Epochs(table), seed, max(1, min(fitting, len(table.sizes))), device)


# --- standardisation ----------------------------------------------------------------------------------------


def standardise(table: Table, device: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (at least EPS) of all columns over images and copies, float32 (W,) each.

    Chunks are merged by Chan, Golub and LeVeque (1979), in float64.
    """
    n, mean, squares = 0, torch.zeros(sum(table.widths), dtype=torch.float64, device=device), 0.0
    for copy in range(table.copies):
        for number, size in enumerate(table.sizes):
            variance, here = torch.var_mean(table.read(number, copy).to(device).double(), dim=0, correction=0)
            shift = here - mean
            squares = squares + variance * size + shift**2 * (n * size / (n + size))
            mean, n = mean + shift * (size / (n + size)), n + size
    return mean.float(), (squares / n).sqrt().clamp(min=EPS).float()


def scaled(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """x (S, B, W) as float32 in units of the standardisation (S, 1, W)."""
    return torch.addcmul(-mean / std, x.float(), 1 / std)


# --- optimisers ---------------------------------------------------------------------------------------------


def adam(groups: Sequence[Group], rates: Tensor, classes: int, options: dict[str, Any]) -> Update:
    """Adam (Kingma and Ba 2015, algorithm 1), L2 on the weights added to the gradient."""
    first, second, steps = {}, {}, {}
    for parameter in (p for group in groups for p in (group.weight, group.bias)):
        first[id(parameter)], second[id(parameter)] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        steps[id(parameter)] = 0

    def update(p: Tensor, g: Tensor, factor: float, weight: bool) -> None:
        key = id(p)
        steps[key] += 1
        g = g.add_(p, alpha=options["weight_decay"]) if weight else g
        m, v = first[key].lerp_(g, 0.1), second[key].mul_(0.999).addcmul_(g, g, value=0.001)
        correction = 1 - 0.999 ** steps[key]
        p.sub_(m / ((v / correction).sqrt_().add_(1e-8)) * (rates * (factor / (1 - 0.9 ** steps[key]))))

    return update


def sgd(groups: Sequence[Group], rates: Tensor, classes: int, options: dict[str, Any]) -> Update:
    """Stochastic gradient descent with momentum, L2 on the weights added to the gradient."""
    velocity = {id(p): torch.zeros_like(p) for group in groups for p in (group.weight, group.bias)}

    def update(p: Tensor, g: Tensor, factor: float, weight: bool) -> None:
        g = g.add_(p, alpha=options["weight_decay"]) if weight else g
        p.sub_(velocity[id(p)].mul_(options["momentum"]).add_(g) * (rates * factor))

    return update


def lars(groups: Sequence[Group], rates: Tensor, classes: int, options: dict[str, Any]) -> Update:
    """LARS (You et al. 2017, algorithm 1): each head's rate in proportion to its weight's norm over its gradient's.

    Biases are not scaled.
    """
    plain = sgd(groups, rates, classes, options | {"weight_decay": 0.0})

    def norm(x: Tensor) -> Tensor:  # of each head: (S C, H K, 1)
        squares = x.square().sum(2, keepdim=True).unflatten(1, (-1, classes)).sum(2, keepdim=True)
        return squares.sqrt().expand(-1, -1, classes, -1).flatten(1, 2)

    def update(p: Tensor, g: Tensor, factor: float, weight: bool) -> None:
        if weight:
            g = g.add_(p, alpha=options["weight_decay"])
            ours, theirs = norm(p), norm(g)
            g = g * torch.where((ours > 0) & (theirs > 0), TRUST * ours / theirs, torch.ones_like(ours))
        plain(p, g, factor, weight)

    return update


OPTIMIZERS = {"adam": adam, "sgd": sgd, "lars": lars}
