"""The attentive probe: learned queries pool the tokens of a tap (Psomas et al., Attention, please! Revisiting attentive
probing through the lens of efficiency, ICLR 2026, arXiv 2506.10178), in the form of its published code and counts.

With tokens x_t of D channels, query q_j attends by a_jt = softmax_t(q_j . x_t / sqrt(D)): the tokens are their own
keys. One linear map without bias makes the values, whose D channels are cut into Q groups; query j pools group j alone.
The pooled groups side by side are normalised by their batch, without scale and shift; a linear layer names the class.

Heads of several seeds and learning rates are trained together, as in `heads`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.attentive import Attentive
from diffprobe.evaluation.representation.descent import held_tables, row_streams, steps
from diffprobe.evaluation.representation.optimizers import OPTIMIZERS
from diffprobe.evaluation.representation.predictors import Setting
from diffprobe.evaluation.representation.standardise import BatchScale, standardised
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal, uniform

QUERY_STD = 0.02  # of initial queries


@dataclass(frozen=True)
class AttentiveHeads:
    """Heads of S seeds and H learning rates."""

    queries: Tensor  # (S, H, Q, D)
    values: Tensor  # (S, H, D, D), the groups of the queries one after another
    weight: Tensor  # (S, H, K, D)
    bias: Tensor  # (S, H, K, 1)
    scale: BatchScale  # of (S H, B, D)
    settings: list[Setting]
    averages_features = False

    @property
    def parameters(self) -> list[Tensor]:
        return [self.queries, self.values, self.weight, self.bias]

    def pooled(self, x: Tensor) -> Tensor:
        """Tokens (S, B, T, D) to (S, H, B, D), before batch norm."""
        queries = self.queries * x.shape[3] ** -0.5
        attention = torch.einsum("shqd,sbtd->shbqt", queries, x).softmax(-1)
        # Pooling is linear, so tokens are pooled before they are mapped: Q products with a group, not T with all.
        tokens = torch.einsum("shbqt,sbtd->shbqd", attention, x)
        groups = self.values.unflatten(2, (queries.shape[2], -1))  # (S, H, Q, D/Q, D)
        return torch.einsum("shqwd,shbqd->shbqw", groups, tokens).flatten(3)

    def logits(self, normed: Tensor) -> Tensor:
        """Normalised (S, H, B, D) to (S, H, B, K)."""
        return normed @ self.weight.mT + self.bias.mT

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """Rows of tokens (S, n, T D) to probabilities (S, 1, H, n, K)."""
        pooled = self.pooled(x.unflatten(2, (-1, self.queries.shape[3])).float())
        normed = standardised(pooled.flatten(0, 1), self.scale.mean, self.scale.std).view_as(pooled)
        return self.logits(normed).softmax(-1)[:, None]


def fit(
    settings: Attentive,
    tables: Sequence[Table],
    seeds: Sequence[int],
    classes: int,
    memory: float,
    device: torch.device,
) -> AttentiveHeads:
    """Fit a head for every seed and learning rate; the tables of the seeds differ in their noise alone.

    `memory` bounds the bytes of tokens held; where they exceed it, images are shuffled within windows of chunks. Raises
    UserError for features that are not tokens, or whose width the queries do not divide.
    """
    width = tables[0].channels
    if sum(tables[0].widths) == width or not width:
        raise UserError("an attentive probe needs a tap with positions, but the chosen one is a vector: set `at`")
    if width % settings.queries:
        raise UserError(f"queries: {settings.queries} do not divide {width}, the channels of the tap")
    streams = row_streams(held_tables(tables, memory), seeds, memory, device)
    heads = new_heads(settings, seeds, classes, width, device)
    rates = torch.tensor(settings.lr, device=device)[:, None, None]  # (H, 1, 1)
    update = OPTIMIZERS[settings.optimizer](heads.parameters, rates, settings)
    state = [*heads.parameters, *update.state, *heads.scale.state]
    for start, stop, factor in steps(settings, len(tables[0].labels), state):
        gradients = [torch.zeros_like(parameter) for parameter in heads.parameters]
        # A batch in parts, each normalised by itself: the tokens of a whole one may be gigabytes.
        part = settings.norm_batch or settings.batch
        for begin in range(start, stop, part):
            rows = [stream.read(begin, min(begin + part, stop)) for stream in streams]
            x, y = (torch.stack(of_seeds) for of_seeds in zip(*rows, strict=True))  # (S, B, T D) and (S, B)
            for total, gradient in zip(gradients, loss_gradients(heads, x, y), strict=True):
                total.add_(gradient, alpha=1 / (stop - start))
        for parameter, gradient in zip(heads.parameters, gradients, strict=True):
            update(parameter, gradient, factor, parameter is not heads.bias)
    return heads


def loss_gradients(heads: AttentiveHeads, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the cross-entropy, summed over images, of rows of tokens (S, B, T D) with labels (S, B)."""
    with torch.enable_grad():
        parameters = [parameter.requires_grad_() for parameter in heads.parameters]
        pooled = heads.pooled(x.unflatten(2, (-1, heads.queries.shape[3])).float())  # (S, H, B, D)
        logits = heads.logits(heads.scale(pooled.flatten(0, 1)).view_as(pooled))  # (S, H, B, K)
        labels = y[:, None].expand(logits.shape[:3])
        # The sum over heads: none of them has a part in another's gradient.
        loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="sum")
        gradients = torch.autograd.grad(loss, parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return gradients


def new_heads(
    settings: Attentive, seeds: Sequence[int], classes: int, width: int, device: torch.device
) -> AttentiveHeads:
    """Heads with their initial weights, which heads of one seed share: linear layers as PyTorch's."""
    rates, row = len(settings.lr), torch.arange(1)

    def layer(purpose: str, rows: int, columns: int) -> Tensor:
        drawn = [uniform(Key(seed, f"probe-{purpose}"), row, (rows, columns))[0] for seed in seeds]
        return every_rate((2 * torch.stack(drawn) - 1) * width**-0.5)

    def every_rate(of_seeds: Tensor) -> Tensor:  # (S, rows, columns) to (S, H, rows, columns)
        return of_seeds[:, None].repeat(1, rates, 1, 1).to(device)

    queries = [normal(Key(seed, "probe-queries"), row, (settings.queries, width))[0] for seed in seeds]
    return AttentiveHeads(
        queries=every_rate(QUERY_STD * torch.stack(queries)),
        values=layer("values", width, width),
        weight=layer("weights", classes, width),
        bias=layer("bias", classes, 1),
        scale=BatchScale(len(seeds) * rates, width, device),
        settings=[{"lr": lr} for lr in settings.lr],
    )
