"""Logistic regression to convergence, by L-BFGS over all rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.evaluation.representation.predictors import PerSeed, Setting, fit_each
from diffprobe.evaluation.representation.standardise import standardised, statistics
from diffprobe.evaluation.representation.table import Table


@dataclass(frozen=True)
class LogisticClassifier:
    """Fitted for H strengths of the penalty."""

    weight: Tensor  # (H, D, K)
    bias: Tensor  # (H, 1, K)
    mean: Tensor  # (1, D)
    std: Tensor  # (1, D)
    settings: list[Setting]
    averages_features = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (1, n, D) to probabilities (1, 1, H, n, K)."""
        return (standardised(x, self.mean, self.std) @ self.weight + self.bias).softmax(-1)[None, None]


def fit(
    settings: Logistic, tables: Sequence[Table], seeds: Sequence[int], classes: int, memory: float, device: torch.device
) -> PerSeed:
    """Fit every strength on each table, all cells as one vector; the problem is convex and needs no seed."""
    return fit_each(lambda table: fit_table(settings, table.joined(), classes, device), tables, memory)


def fit_table(settings: Logistic, table: Table, classes: int, device: torch.device) -> LogisticClassifier:
    """Minimise the mean cross-entropy plus strength |W|^2 / 2 over standardised features, without penalty on the bias.

    Every copy of every image is a row.
    """
    mean, std = statistics(table, device)
    weight = torch.zeros(sum(table.widths), classes, device=device, requires_grad=True)  # (D, K)
    bias = torch.zeros(1, classes, device=device, requires_grad=True)  # (1, K)
    solutions: dict[float, tuple[Tensor, Tensor]] = {}
    # The strongest penalty converges fastest, and its solution is a good start for the next weaker one.
    for strength in sorted(settings.strength, reverse=True):
        minimise(table, weight, bias, mean, std, strength, settings.iterations)
        solutions[strength] = weight.detach().clone(), bias.detach().clone()
    weights, biases = (torch.stack([solutions[strength][i] for strength in settings.strength]) for i in (0, 1))
    return LogisticClassifier(weights, biases, mean, std, [{"strength": strength} for strength in settings.strength])


def minimise(
    table: Table, weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor, strength: float, iterations: int
) -> None:
    """L-BFGS under the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 7.5 and 3.5), in place."""
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        max_eval=2 * iterations,  # a line search seldom needs a second evaluation
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        history_size=20,  # pairs of steps and gradients in place of the Hessian
        line_search_fn="strong_wolfe",
    )
    n = len(table.labels) * table.copies

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = strength / 2 * weight.square().sum()
        penalty.backward()
        total = penalty.detach()
        # Gradients are accumulated chunk by chunk: L-BFGS needs the whole data set at each step, memory does not.
        for copy in range(table.copies):
            for number in range(len(table.sizes)):
                x = standardised(table.read(number, copy).to(weight.device), mean, std)  # (n, D)
                y = table.chunk_labels(number).to(weight.device)
                chunk_loss = F.cross_entropy(x @ weight + bias, y, reduction="sum") / n
                chunk_loss.backward()
                total = total + chunk_loss.detach()
        return total

    optimizer.step(loss)  # a single step runs all iterations
