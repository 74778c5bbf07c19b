"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of generated samples."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError

ROUNDING = 1e-12  # squared distances below this share of the squared norms are those of equal rows


class Manifold(NamedTuple):
    """How two sets lie in each other's k-nearest-neighbour balls; all but density within [0, 1]."""

    precision: float  # the share of fake in any ball of real (2019, eq. 2)
    recall: float  # the share of real in any ball of fake
    density: float  # in how many of real's balls a fake lies, over k (2020, eq. 4)
    coverage: float  # the share of real's balls with a fake in them (2020, eq. 5)


def manifold(real: Tensor, fake: Tensor, k: int = 3, wide: int = 5, chunk: int = 1024) -> Manifold:
    """Precision and recall with balls that reach to the k-th nearest other row, density and coverage to the `wide`-th.

    real (N, D), fake (M, D) features, any floating type. Distances are float64; a few of (chunk, max(N, M)) are held
    at once. UserError if a set has not more than k rows, or the real one not more than `wide`.
    """
    refuse_few_neighbours(len(real), len(fake), k, wide)
    real, fake = real.double(), fake.to(real.device).double()
    # Distances by norms and products lose digits far from the origin, where all of a ReLU's features are.
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    narrow_radii, wide_radii = squared_radii(real, (k, wide), chunk)  # (N,) each
    (fake_radii,) = squared_radii(fake, (k,), chunk)  # (M,)
    precise = inside = 0  # fake rows in any ball; pairs of a fake row and a wide ball that it is in
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for part, radii in zip(fake.split(chunk), fake_radii.split(chunk), strict=True):
        squared = squared_distances(part, real)  # (chunk, N)
        precise += int((squared <= narrow_radii).any(1).sum())
        recalled |= (squared <= radii[:, None]).any(0)  # (N,): real rows in the ball of a fake one
        within = squared <= wide_radii  # (chunk, N)
        inside += int(within.sum())
        covered |= within.any(0)
    recall, coverage = (hit.double().mean().item() for hit in (recalled, covered))
    return Manifold(precise / len(fake), recall, inside / (wide * len(fake)), coverage)


def squared_radii(rows: Tensor, neighbours: tuple[int, ...], chunk: int) -> list[Tensor]:
    """The squared distance of each row (N, D) to its k-th nearest other row, (N,), for each k."""
    # Each row is its own nearest neighbour, at distance 0: of k + 1 the one at index k is the k-th other.
    parts = [
        squared_distances(part, rows).topk(max(neighbours) + 1, largest=False).values for part in rows.split(chunk)
    ]
    return [torch.cat([part[:, k] for part in parts]) for k in neighbours]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (A, B) of rows (A, D) to rows (B, D), float64; exactly 0 for equal rows."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, one matrix product; of equal rows only rounding is left, which is cut off so
    # that a copy lies in the ball of its original.
    norms = a.square().sum(1)[:, None] + b.square().sum(1)  # (A, B)
    squared = norms - 2 * a @ b.T
    return squared.masked_fill_(squared < ROUNDING * norms, 0.0)


def refuse_few_neighbours(real: int, fake: int, k: int, wide: int) -> None:
    """Raises UserError for sets that are too small for balls of `k` and `wide` neighbours."""
    if k >= min(real, fake) or wide >= real:
        raise UserError(
            f"precision and recall with k = {k}, density and coverage with k = {wide} need more images than that, "
            f"here are {real} real and {fake} generated: ask for more images or a smaller k"
        )
