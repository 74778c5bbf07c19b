"""Intrinsic dimension, from the distances to nearest neighbours.

Facco, d'Errico, Rodriguez and Laio, Estimating the intrinsic dimension of datasets by a minimal neighborhood
information, Scientific Reports 2017; Levina and Bickel, Maximum likelihood estimation of intrinsic dimension, NIPS
2004; MacKay and Ghahramani, Comments on that paper, 2005.
"""

import math

import torch
from torch import Tensor

from diffprobe.config.monitors.intrinsic_dimension import IntrinsicDimension
from diffprobe.evaluation.generation.manifold import squared_radii
from diffprobe.evaluation.representation.monitors import CellFeatures

CHUNK = 1024  # rows whose distances to all others are held at a time
FITTED = 0.9  # the share of the smallest ratios to which TwoNN's line is fitted, as in its paper


def measure(settings: IntrinsicDimension, features: CellFeatures) -> dict[str, float]:
    """Of the first copy. Left out where too few images have features of their own, and where it is infinite, as of
    images whose neighbours are all equally far.
    """
    x = features.first.double()
    x = (x - x.mean(0)).unique(dim=0)  # equal rows are at distance 0, of which no estimator takes the logarithm
    neighbours = settings.neighbours if settings.estimator == "mle" else 2
    if len(x) <= neighbours:
        return {}
    squared = torch.stack(squared_radii(x, tuple(range(1, neighbours + 1)), CHUNK), dim=1)  # (n, k), rising
    logs = squared.clamp(min=torch.finfo(squared.dtype).tiny).log() / 2  # of the distances
    dimension = maximum_likelihood(logs) if settings.estimator == "mle" else two_nn(logs)
    return {settings.figures[0]: dimension} if math.isfinite(dimension) else {}


def two_nn(logs: Tensor) -> float:
    """The slope of -ln(1 - F(mu)) over ln(mu), by a line through the origin, where mu is the ratio of an image's
    distances to its second and first neighbour, and F its empirical distribution; `logs` (n, 2) of the distances.
    """
    n = len(logs)
    ratios = (logs[:, 1] - logs[:, 0]).sort().values[: int(FITTED * n)]  # ln(mu), rising
    ranks = torch.arange(1, len(ratios) + 1, dtype=ratios.dtype, device=ratios.device)
    survival = -(1 - ranks / n).log()
    return (ratios @ survival / ratios.square().sum()).item()


def maximum_likelihood(logs: Tensor) -> float:
    """The inverse of the mean over images of the inverse estimate (2004, eq. 8; averaged as by MacKay and Ghahramani).

    An image's inverse estimate is the mean of ln(T_k / T_j) over its neighbours j < k; `logs` (n, k) of the distances.
    """
    inverse = (logs[:, -1:] - logs[:, :-1]).mean(1)  # (n,)
    return (1 / inverse.mean()).item()
