"""Effective rank (Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007)."""

import torch
from torch import Tensor

from diffprobe.config.monitors.effective_rank import EffectiveRank
from diffprobe.evaluation.representation.monitors import CellFeatures

ROUNDING = 1e-14  # of the largest eigenvalue: smaller ones are those of a direction without variance


def measure(settings: EffectiveRank, features: CellFeatures) -> dict[str, float]:
    """Of the first copy."""
    x = features.first.double()
    return {settings.figures[0]: effective_rank(x - x.mean(0) if settings.centre else x)}


def effective_rank(x: Tensor) -> float:
    """exp of the entropy of the singular values of x (n, D), float64, divided by their sum (definition 1).

    Between 1 and the rank of x; 0 where x is zero.
    """
    gram = x.T @ x if x.shape[1] <= len(x) else x @ x.T  # its eigenvalues are the squares of the singular values
    eigenvalues = torch.linalg.eigvalsh(gram)  # rising
    singular = eigenvalues[eigenvalues > ROUNDING * eigenvalues[-1]].sqrt()
    share = singular / singular.sum()
    return (-share * share.log()).sum().exp().item() if len(share) else 0.0
