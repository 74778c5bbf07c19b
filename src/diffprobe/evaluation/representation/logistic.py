"""Logistic regression to convergence, by L-BFGS over all rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.evaluation.representation.lbfgs import Descent
from diffprobe.evaluation.representation.predictors import PerSeed, Setting, fit_each
from diffprobe.evaluation.representation.standardise import standardised, statistics
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime import autosave


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


def fit_table(
    settings: Logistic,
    table: Table,
    classes: int,
    device: torch.device,
    report: Callable[[int, int], object] = lambda done, most: autosave.note(f"{done:,} of at most {most:,} iterations"),
) -> LogisticClassifier:
    """Minimise the mean cross-entropy plus strength |W|^2 / 2 over standardised features, without penalty on the bias.

    Every copy of every image is a row. `report` is called at first and after each iteration, with the number of
    iterations, those of a killed job included, and with how many there will be at most.
    """
    mean, std = statistics(table, device)
    weight = torch.zeros(sum(table.widths), classes, device=device, requires_grad=True)  # (D, K)
    bias = torch.zeros(1, classes, device=device, requires_grad=True)  # (1, K)
    solutions: list[tuple[Tensor, Tensor]] = []
    # The strongest penalty converges fastest, and its solution is a good start for the next weaker one.
    order = sorted(settings.strength, reverse=True)
    saved = autosave.own()
    before = saved.read() if saved else {}
    while f"solution.{len(solutions)}.weight" in before:
        solutions.append((before[f"solution.{len(solutions)}.weight"], before[f"solution.{len(solutions)}.bias"]))
    solutions = [(of_weight.to(device), of_bias.to(device)) for of_weight, of_bias in solutions]
    iterations = int(before.get("iterations", 0))
    report(iterations, iterations + (len(order) - len(solutions)) * settings.iterations)

    def state(descent: Descent | None = None) -> dict[str, Tensor]:
        weights = {f"solution.{i}.weight": of_weight for i, (of_weight, _) in enumerate(solutions)}
        biases = {f"solution.{i}.bias": of_bias for i, (_, of_bias) in enumerate(solutions)}
        return weights | biases | (descent.saved() if descent else {}) | {"iterations": torch.tensor(iterations)}

    for strength in order[len(solutions) :]:
        descent = Descent([weight, bias], objective(table, weight, bias, mean, std, strength), settings.iterations)
        goes_on = True
        if before:
            descent.restore(before)
            before = {}
        while goes_on:
            goes_on = descent.step()
            iterations += 1
            own = settings.iterations - descent.iteration if goes_on else 0
            report(iterations, iterations + own + (len(order) - len(solutions) - 1) * settings.iterations)
            if saved and goes_on:
                saved.offer(partial(state, descent))
        solutions.append((weight.detach().clone(), bias.detach().clone()))
    if saved:
        saved.finish(state)
    by_strength = dict(zip(order, solutions, strict=True))
    weights, biases = (torch.stack([by_strength[strength][i] for strength in settings.strength]) for i in (0, 1))
    return LogisticClassifier(weights, biases, mean, std, [{"strength": strength} for strength in settings.strength])


def objective(
    table: Table, weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor, strength: float
) -> Callable[[], Tensor]:
    """A function that returns the loss at the present weight and bias, and sets their gradients."""
    n = len(table.labels) * table.copies

    def loss() -> Tensor:
        weight.grad = bias.grad = None
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

    return loss
