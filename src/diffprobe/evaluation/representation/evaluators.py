"""The evaluators by kind, and how they are judged: fitted on some images, they name the classes of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffprobe.evaluation.representation.heads import fit_linear
from diffprobe.evaluation.representation.logistic import fit_logistic
from diffprobe.evaluation.representation.neighbours import fit_neighbours
from diffprobe.evaluation.representation.ridge import fit_ridge
from diffprobe.evaluation.representation.table import Table

MANY = 20  # classes from which the five likeliest are asked for too
ROOM = 2**26  # probabilities that are held at once (256 MiB)
TINY = 1e-30  # the least probability that counts in a log-loss


class Predictor(Protocol):
    """Fitted in H settings for C cells (only `linear` and `ridge` for more than one), for S seeds or for one."""

    settings: list[dict[str, float]]
    of_mean: bool  # whether noisy copies are averaged before it, not after

    def probabilities(self, x: Tensor) -> Tensor:
        """Features (S, n, W) to the probabilities of the classes (S, C, H, n, K)."""


@dataclass(frozen=True)
class Stacked:
    """Predictors of one seed each, as one of all."""

    members: Sequence[Predictor]

    @property
    def settings(self) -> list[dict[str, float]]:
        return self.members[0].settings

    @property
    def of_mean(self) -> bool:
        return self.members[0].of_mean

    def probabilities(self, x: Tensor) -> Tensor:
        return torch.cat([member.probabilities(x[i : i + 1]) for i, member in enumerate(self.members)])


def fit(
    evaluator: dict[str, Any], tables: Sequence[Table], seeds: Sequence[int], classes: int, memory: float, device: Any
) -> Predictor:
    """An evaluator (its config) fitted for each seed on its table; what knows no seed, once for equal tables."""
    kind = evaluator["kind"]
    if kind == "linear":
        return fit_linear(tables, seeds, classes, evaluator, memory, device)
    distinct = {table.key: table for table in tables}
    made = {key: fit_one(evaluator, table.within(memory / 2), classes, device) for key, table in distinct.items()}
    return Stacked([made[table.key] for table in tables])


def fit_one(evaluator: dict[str, Any], table: Table, classes: int, device: Any) -> Predictor:
    if evaluator["kind"] == "ridge":
        return fit_ridge(table, classes, evaluator["strength"], device)
    if evaluator["kind"] == "logistic":
        return fit_logistic(table.joined(), classes, evaluator["strength"], evaluator["iterations"], device)
    return fit_neighbours(table.joined(), classes, evaluator, device)


@dataclass(frozen=True)
class Judged:
    """Of S seeds, P judged copies (1 where copies were averaged), C cells, H settings."""

    accuracy: Tensor  # (S, P, C, H) in [0, 1]
    top5: Tensor  # (S, P, C, H); with less than MANY classes of no interest
    nll: Tensor  # (S, P, C, H): mean log-loss
    confusion: Tensor | None  # int64 (C, H, K, K), true classes downwards: sums over seeds and copies; where asked for


@torch.inference_mode()
def judge(
    predictor: Predictor, tables: Sequence[Table], classes: int, average: bool, device: Any, confusion: bool = False
) -> Judged:
    """How well each seed's predictor names the classes of its table's images.

    With `average`, an image's copies are judged as one: by the mean of their probabilities, or of their features where
    the predictor asks for it; else each alone.
    """
    if average and predictor.of_mean:
        tables = [table.mean() for table in tables]
    copies, n = tables[0].copies, len(tables[0].labels)
    held = len(tables) * copies * len(tables[0].widths) * len(predictor.settings) * classes  # figures of an image
    sums: list[Tensor] = []
    counts: Any = 0
    for number in range(len(tables[0].sizes)):
        labels = tables[0].chunk_labels(number).to(device)
        x = [torch.stack([table.read(number, copy) for table in tables]).to(device) for copy in range(copies)]
        for rows in torch.arange(len(labels), device=device).split(max(1, ROOM // held)):
            p = torch.stack([predictor.probabilities(copy[:, rows]) for copy in x], dim=1)  # (S, P, C, H, n, K)
            p = p.mean(1, keepdim=True) if average else p
            sums.append(torch.stack(figures(p, labels[rows])))  # (3, S, P, C, H)
            if confusion:
                counts = counts + confused(p.argmax(-1), labels[rows], classes)
    right, five, loss = torch.stack(sums).double().sum(0) / n
    return Judged(right.cpu(), five.cpu(), loss.cpu(), counts.cpu() if confusion else None)


def figures(p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right answers, answers among the five likeliest, log-loss: sums (...) of p (..., n, K) with labels (n,)."""
    own = p.gather(-1, labels.expand(p.shape[:-1])[..., None])[..., 0]  # (..., n)
    right = (p.argmax(-1) == labels).sum(-1)
    five = ((p > own[..., None]).sum(-1) < 5).sum(-1)
    return right.double(), five.double(), -own.double().clamp(min=TINY).log().sum(-1)


def confused(guess: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (C, H, K, K) of guesses (S, P, C, H, n), true classes downwards."""
    _, _, cells, settings, _ = guess.shape
    pairs = (labels * classes + guess).movedim((2, 3), (0, 1)).flatten(2)  # (C, H, S P n)
    counts = torch.zeros(cells, settings, classes**2, dtype=torch.int64, device=guess.device)
    counts.scatter_add_(2, pairs, torch.ones_like(pairs))
    return counts.unflatten(2, (classes, classes))
