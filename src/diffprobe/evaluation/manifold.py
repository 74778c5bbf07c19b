"""Precision and recall of generated samples by k-nearest-neighbour manifolds (Kynkäänniemi et al. 2019)."""

import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError

ROUNDING = 1e-12  # squared distances below this part of the squared norms are those of equal rows


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (A, B) of rows (A, D) to rows (B, D), float64; exactly 0 for equal rows."""
    norms = a.square().sum(1)[:, None] + b.square().sum(1)  # (A, B)
    squared = norms - 2 * a @ b.T
    return squared.masked_fill_(squared < ROUNDING * norms, 0.0)


def squared_radii(rows: Tensor, k: int, chunk: int) -> Tensor:
    """The squared distance of each row (N, D) to its k-th nearest other row, (N,)."""
    # The row itself is among its neighbours, at distance 0: hence k + 1.
    parts = [squared_distances(part, rows).topk(k + 1, largest=False).values[:, -1] for part in rows.split(chunk)]
    return torch.cat(parts)


def covered(points: Tensor, centres: Tensor, radii: Tensor, chunk: int) -> float:
    """The part of points (M, D) in any ball about centres (N, D) of squared radii (N,) (eq. 1 and 2)."""
    inside = [(squared_distances(part, centres) <= radii).any(1) for part in points.split(chunk)]
    return torch.cat(inside).double().mean().item()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3, chunk: int = 1024) -> tuple[float, float]:
    """Precision, the part of fake within real's manifold, and recall, the reverse (eq. 1 and 2), in [0, 1].

    real (N, D), fake (M, D) features, any floating type. A set's manifold is the union of balls about its
    rows that reach to the k-th nearest other row. Distances are float64; (chunk, max(N, M)) of them are held
    at once. UserError if a set has not more than k rows.
    """
    if k >= min(len(real), len(fake)):
        raise UserError(
            f"precision and recall with k = {k} need more than {k} images, here are {len(real)} real and "
            f"{len(fake)} generated: ask for more images or a smaller k"
        )
    real, fake = real.double(), fake.to(real.device).double()
    centre = real.mean(0)  # distances by norms and products lose digits far from the origin
    real, fake = real - centre, fake - centre
    precision = covered(fake, real, squared_radii(real, k, chunk), chunk)
    recall = covered(real, fake, squared_radii(fake, k, chunk), chunk)
    return precision, recall
