"""Evaluators: each kind is fitted by the function that its config names; all are scored in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprobe.config.evaluators import Evaluator
from diffprobe.evaluation.representation.predictors import Predictor
from diffprobe.evaluation.representation.table import Table
from diffprobe.runtime.located import located

TOP5_FROM = 20  # classes from which top-5 accuracy is reported too
MAX_VALUES = 2**26  # probabilities in memory at once (256 MiB)
MIN_PROBABILITY = 1e-30  # keeps the log-loss finite


def fit(
    settings: Evaluator,
    tables: Sequence[Table],
    seeds: Sequence[int],
    classes: int,
    memory: float,
    device: torch.device,
) -> Predictor:
    """Fit an evaluator for each seed on its own table, by the function that `settings.build` names.

    That function takes the same arguments. `memory` bounds the bytes of features held at a time.
    """
    return located(settings.build)(settings, tables, seeds, classes, memory, device)


@dataclass(frozen=True)
class ProbeScores:
    """Of S seeds, P noisy copies (1 where copies are averaged), C cells and H settings."""

    accuracy: Tensor  # (S, P, C, H) in [0, 1]
    top5: Tensor  # (S, P, C, H) in [0, 1]
    nll: Tensor  # (S, P, C, H): mean log-loss
    confusion: Tensor  # int64 (C, H, K, K), rows are true classes: counts over all seeds and copies


@torch.inference_mode()
def score(
    predictor: Predictor, tables: Sequence[Table], classes: int, average: bool, device: torch.device
) -> ProbeScores:
    """Score the predictor of each seed on that seed's table.

    With `average` the copies of an image count as one, by their mean probabilities, or by their mean features where
    the predictor averages features; otherwise every copy is scored alone.
    """
    if average and predictor.averages_features:
        tables = [table.mean() for table in tables]
    copies, n, cells = tables[0].copies, len(tables[0].labels), len(tables[0].widths)
    values_per_image = len(tables) * copies * cells * len(predictor.settings) * classes
    sums: list[Tensor] = []
    confusion = torch.zeros(cells, len(predictor.settings), classes, classes, dtype=torch.int64, device=device)
    for number in range(len(tables[0].sizes)):
        labels = tables[0].chunk_labels(number).to(device)
        x = [torch.stack([table.read(number, copy) for table in tables]).to(device) for copy in range(copies)]
        # Seeds, cells, settings and classes multiply, so a chunk's probabilities are computed for some rows at a time.
        for rows in torch.arange(len(labels), device=device).split(max(1, MAX_VALUES // values_per_image)):
            p = torch.stack([predictor.probabilities(copy[:, rows]) for copy in x], dim=1)  # (S, P, C, H, n, K)
            p = p.mean(1, keepdim=True) if average else p
            sums.append(torch.stack(summed_scores(p, labels[rows])))  # (3, S, P, C, H)
            confusion += confusion_counts(p.argmax(-1), labels[rows], classes)
    correct, in_top5, loss = (torch.stack(sums).double().sum(0) / n).cpu()
    return ProbeScores(correct, in_top5, loss, confusion.cpu())


def summed_scores(p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Correct predictions, labels among the top five, log-loss: sums (...) over n of p (..., n, K), labels (n,).

    Equal probabilities, as of all classes without a vote of a neighbour, share the places among the five that are left.
    NaN, of a head that has diverged, is never right.
    """
    of_label = p.gather(-1, labels.expand(p.shape[:-1])[..., None])[..., 0]  # (..., n)
    correct = ((p.argmax(-1) == labels) & of_label.isfinite()).sum(-1)  # `argmax` of NaN is 0, a class
    higher, equal = (p > of_label[..., None]).sum(-1), (p == of_label[..., None]).sum(-1)  # (..., n)
    in_top5 = ((5 - higher) / equal.clamp(min=1)).clamp(0, 1).where(equal > 0, 0).double().sum(-1)
    return correct.double(), in_top5, -of_label.double().clamp(min=MIN_PROBABILITY).log().sum(-1)


def confusion_counts(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (C, H, K, K) of predicted classes (S, P, C, H, n); rows are true classes."""
    _, _, cells, settings, _ = predicted.shape
    # A pair (true, predicted) is one number, true * K + predicted, so that one scatter counts all of them.
    pairs = (labels * classes + predicted).movedim((2, 3), (0, 1)).flatten(2)  # (C, H, S P n)
    counts = torch.zeros(cells, settings, classes**2, dtype=torch.int64, device=predicted.device)
    counts.scatter_add_(2, pairs, torch.ones_like(pairs))
    return counts.unflatten(2, (classes, classes))
