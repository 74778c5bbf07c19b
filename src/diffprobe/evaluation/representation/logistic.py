"""Logistic regression to convergence, by L-BFGS over all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.evaluation.representation.heads import scaled, standardise
from diffprobe.evaluation.representation.table import Table


@dataclass(frozen=True)
class Logistic:
    """Fitted for H strengths of the penalty."""

    weight: Tensor  # (H, D, K)
    bias: Tensor  # (H, 1, K)
    mean: Tensor  # (1, D)
    std: Tensor  # (1, D)
    settings: list[dict[str, float]]
    of_mean = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (1, n, D) to probabilities (1, 1, H, n, K)."""
        return (scaled(x, self.mean, self.std) @ self.weight + self.bias).softmax(-1)[None, None]


def fit_logistic(table: Table, classes: int, strengths: Sequence[float], iterations: int, device: Any) -> Logistic:
    """Minimise the mean cross-entropy plus strength |W|^2 / 2 on standardised features; the bias is free.

    Rows are all copies of all images; the features are one cell. The strongest penalty is fitted first, and the next
    one from there.
    """
    mean, std = standardise(table, device)
    width = sum(table.widths)
    weight = torch.zeros(width, classes, device=device, requires_grad=True)
    bias = torch.zeros(1, classes, device=device, requires_grad=True)
    found = {}
    for strength in sorted(strengths, reverse=True):
        minimise(table, weight, bias, mean, std, strength, iterations)
        found[strength] = weight.detach().clone(), bias.detach().clone()
    weights, biases = (torch.stack([found[strength][i] for strength in strengths]) for i in (0, 1))
    return Logistic(weights, biases, mean, std, [{"strength": strength} for strength in strengths])


def minimise(
    table: Table, weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor, strength: float, iterations: int
) -> None:
    """L-BFGS with the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 7.5 and 3.5), in place."""
    rule = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-6, "tolerance_change": 1e-9}
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=iterations, max_eval=2 * iterations, history_size=20, **rule)
    n = len(table.labels) * table.copies

    def loss() -> Tensor:
        optimiser.zero_grad()
        total = strength / 2 * weight.square().sum()
        total.backward()
        total = total.detach()
        for copy in range(table.copies):
            for number in range(len(table.sizes)):
                x = scaled(table.read(number, copy).to(weight.device), mean, std)
                y = table.chunk_labels(number).to(weight.device)
                part = F.cross_entropy(x @ weight + bias, y, reduction="sum") / n
                part.backward()
                total = total + part.detach()
        return total

    optimiser.step(loss)
