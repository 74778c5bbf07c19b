"""Ridge regression onto the classes: every strength from one eigendecomposition, so it scores quickly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.evaluation.representation.heads import scaled, standardise
from diffprobe.evaluation.representation.table import Table


@dataclass(frozen=True)
class Ridge:
    """Fitted for C cells and H strengths of the penalty."""

    weights: list[Tensor]  # of each cell, (H, D, K)
    prior: Tensor  # (K,): the classes' shares
    mean: Tensor  # (1, W)
    std: Tensor  # (1, W)
    settings: list[dict[str, float]]
    of_mean = False

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (1, n, W) to (1, C, H, n, K): the estimates of the classes' indicators, brought to sum 1."""
        columns = scaled(x, self.mean, self.std)[0].split([w.shape[1] for w in self.weights], dim=1)
        scores = torch.stack([h @ w + self.prior for h, w in zip(columns, self.weights, strict=True)])  # (C, H, n, K)
        scores = scores.clamp(min=1e-6)
        return (scores / scores.sum(-1, keepdim=True))[None]


def fit_ridge(table: Table, classes: int, strengths: Sequence[float], device: Any) -> Ridge:
    """Minimise |Y - X W|^2 / N + strength |W|^2 over standardised features and centred indicators of the classes.

    With X'X / N = Q diag(l) Q', W = Q (l + strength)^-1 Q' X'Y / N for every strength (Hastie, Tibshirani and Friedman
    2009, eq. 3.47). Rows are all copies of all images. Products of 1,024 rows are summed in float64.
    """
    mean, std = standardise(table, device)
    labels = table.labels.to(device)
    prior = F.one_hot(labels, classes).double().mean(0)
    grams = [torch.zeros(d, d, dtype=torch.float64, device=device) for d in table.widths]
    moments = [torch.zeros(d, classes, dtype=torch.float64, device=device) for d in table.widths]
    n = len(labels) * table.copies
    for copy in range(table.copies):
        for number in range(len(table.sizes)):
            x = scaled(table.read(number, copy).to(device), mean, std)  # (n, W)
            y = (F.one_hot(table.chunk_labels(number).to(device), classes) - prior).float()
            for i, h in enumerate(x.split(list(table.widths), dim=1)):
                grams[i] += (h.T @ h).double() / n
                moments[i] += (h.T @ y).double() / n
    weights = [solved(gram, moment, strengths).float() for gram, moment in zip(grams, moments, strict=True)]
    return Ridge(weights, prior.float(), mean, std, [{"strength": strength} for strength in strengths])


def solved(gram: Tensor, moment: Tensor, strengths: Sequence[float]) -> Tensor:
    """(gram + strength)^-1 moment for each strength: (H, D, K)."""
    values, vectors = torch.linalg.eigh(gram)
    seen = vectors.T @ moment  # (D, K)
    return torch.stack([vectors @ (seen / (values.clamp(min=0) + strength)[:, None]) for strength in strengths])
