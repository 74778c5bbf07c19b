"""The grid over layer and noise, and the heads of a chosen cell. Features come as {split: (draws, N, D)}."""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from diffprobe.evaluation.heads import accuracy, fit_linear
from diffprobe.evaluation.neighbours import knn

Features = dict[str, np.ndarray]
Labels = dict[str, np.ndarray]
BUDGET = 2**29  # bytes of features held at once by one batch of heads


def score_grid(
    cells: Sequence[tuple[str, str]],
    features: Callable[[str, str], Features],
    labels: Labels,
    classes: int,
    seed: int,
    options: dict,
    device: torch.device,
    report: Callable[[int], None],
) -> pd.DataFrame:
    """One row per cell (tap, level): accuracy and log-loss on `select` of heads fitted on `train`.

    `features(level, tap)` loads a cell. Cells of equal width are fitted together, as one batched problem.
    """
    rows: dict[tuple[str, str], dict] = {}
    for group in batches(cells, features):
        stacked = {
            split: torch.stack([torch.from_numpy(f[split]) for _, f in group]).to(device)
            for split in ("train", "select")
        }
        y = {split: torch.from_numpy(labels[split]).to(device) for split in stacked}
        heads = fit_linear(stacked["train"], y["train"], classes, [seed] * len(group), **options)
        logits = heads.logits(stacked["select"])  # (K, N, classes)
        scores = zip(accuracy(logits, y["select"]).tolist(), nll(logits, y["select"]).tolist(), strict=True)
        for (cell, _), (right, loss) in zip(group, scores, strict=True):
            rows[cell] = {"tap": cell[0], "level": cell[1], "accuracy": right, "nll": loss}
        report(len(rows))
    return pd.DataFrame([rows[cell] for cell in cells])


def batches(cells: Sequence[tuple[str, str]], features: Callable[[str, str], Features]):
    """Groups of (cell, features) of one width, each within the budget of memory, cell by cell loaded once."""
    waiting: dict[int, list] = {}
    for tap, level in cells:
        found = features(level, tap)
        width = found["train"].shape[2]
        group = waiting.setdefault(width, [])
        group.append(((tap, level), found))
        if sum(f["train"].nbytes for _, f in group) >= BUDGET:
            yield waiting.pop(width)
    yield from waiting.values()


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-loss (K,) of log-probabilities (K, N, classes): tells cells of equal accuracy apart."""
    return -logits.gather(2, labels.expand(len(logits), -1)[..., None]).mean(dim=(1, 2))


def best_cell(grid: pd.DataFrame) -> dict:
    """The cell of the best accuracy, of equals the one of the least log-loss, with the runner-up."""
    ranked = grid.sort_values(["accuracy", "nll"], ascending=[False, True], kind="stable").to_dict("records")
    return {**ranked[0], "runner_up": ranked[1] if len(ranked) > 1 else None}


def join(features: Features, labels: Labels, splits: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Features (draws, N, D) and labels (N,) of several splits as one."""
    joined = np.concatenate([features[split] for split in splits], axis=1)
    y = np.concatenate([labels[split] for split in splits])
    return torch.from_numpy(joined).to(device), torch.from_numpy(y).to(device)


def probe(
    features: Features,
    labels: Labels,
    classes: int,
    seeds: Sequence[int],
    options: dict,
    fit: Sequence[str],
    read: str,
    device: torch.device,
) -> tuple[float, float | None]:
    """Linear heads, one per seed, fitted on the splits `fit`: their mean accuracy on `read`, and its spread."""
    train, y = join(features, labels, fit, device)
    query, truth = join(features, labels, [read], device)
    heads = fit_linear(train.expand(len(seeds), *train.shape), y, classes, seeds, **options)
    found = accuracy(heads.logits(query.expand(len(seeds), *query.shape)), truth).tolist()
    return statistics.mean(found), statistics.stdev(found) if len(found) > 1 else None


def neighbours_accuracy(
    features: Features,
    labels: Labels,
    classes: int,
    k: int,
    fit: Sequence[str],
    read: str,
    device: torch.device,
) -> float:
    """Accuracy of kNN on `read` from the splits `fit`, on features averaged over their draws."""
    train, y = join(features, labels, fit, device)
    query, truth = join(features, labels, [read], device)
    predicted = knn(train.float().mean(dim=0), y, query.float().mean(dim=0), classes, k)
    return float((predicted == truth).double().mean())
