"""Ridge regression onto class indicators: all strengths from one eigendecomposition, so it is the fastest scorer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.evaluation.representation.predictors import PerSeed, Setting, fit_each
from diffprobe.evaluation.representation.standardise import standardised, statistics
from diffprobe.evaluation.representation.table import Table

MIN_SCORE = 1e-6  # regression may give negative estimates, which are no probabilities


@dataclass(frozen=True)
class RidgeClassifier:
    """Fitted for C cells and H strengths of the penalty."""

    weights: list[Tensor]  # of each cell, (H, D, K)
    prior: Tensor  # (K,): frequencies of the classes
    mean: Tensor  # (1, W)
    std: Tensor  # (1, W)
    settings: list[Setting]
    averages_features = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (1, n, W) to (1, C, H, n, K): estimated class indicators, clamped and normalised to sum to 1."""
        columns = standardised(x, self.mean, self.std)[0].split([w.shape[1] for w in self.weights], dim=1)
        scores = torch.stack([h @ w + self.prior for h, w in zip(columns, self.weights, strict=True)])  # (C, H, n, K)
        scores = scores.clamp(min=MIN_SCORE)
        return (scores / scores.sum(-1, keepdim=True))[None]


def fit(
    settings: Ridge, tables: Sequence[Table], seeds: Sequence[int], classes: int, memory: float, device: torch.device
) -> PerSeed:
    """Fit every strength on each table; ridge regression has a closed form and needs no seed."""
    return fit_each(lambda table: fit_table(settings.strength, table, classes, device), tables, memory)


def fit_table(strengths: Sequence[float], table: Table, classes: int, device: torch.device) -> RidgeClassifier:
    """Minimise |Y - X W|^2 / N + strength |W|^2 over standardised features X and centred class indicators Y.

    Every copy of every image is a row (Hastie, Tibshirani and Friedman 2009, eq. 3.43 f.).
    """
    mean, std = statistics(table, device)
    labels = table.labels.to(device)
    # Centring the indicators takes the place of an intercept, since the features are centred too.
    prior = F.one_hot(labels, classes).double().mean(0)
    grams = [torch.zeros(d, d, dtype=torch.float64, device=device) for d in table.widths]
    moments = [torch.zeros(d, classes, dtype=torch.float64, device=device) for d in table.widths]
    n = len(labels) * table.copies
    for copy in range(table.copies):
        for number in range(len(table.sizes)):
            x = standardised(table.read(number, copy).to(device), mean, std).double()  # (n, W)
            y = F.one_hot(table.chunk_labels(number).to(device), classes) - prior  # (n, K)
            for i, h in enumerate(x.split(list(table.widths), dim=1)):
                # In float32 rounding would rule the directions in which features do not vary, as where images are few.
                grams[i] += h.T @ h / n  # X'X / N
                moments[i] += h.T @ y / n  # X'Y / N
    weights = [solve(gram, moment, strengths).float() for gram, moment in zip(grams, moments, strict=True)]
    return RidgeClassifier(weights, prior.float(), mean, std, [{"strength": strength} for strength in strengths])


def solve(gram: Tensor, moment: Tensor, strengths: Sequence[float]) -> Tensor:
    """(gram + strength)^-1 moment for each strength: (H, D, K).

    With gram = Q diag(l) Q' this is Q (l + strength)^-1 Q' moment (Hastie, Tibshirani and Friedman 2009, eq. 3.47): the
    one decomposition costs as much as a single solve, each further strength only a product.
    """
    values, vectors = torch.linalg.eigh(gram)
    rotated = vectors.T @ moment  # (D, K)
    # Rounding may leave eigenvalues of a singular matrix below zero.
    return torch.stack([vectors @ (rotated / (values.clamp(min=0) + strength)[:, None]) for strength in strengths])
