"""Mixup (Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018): convex combinations of pairs of images.

The two images of a pair are neighbours in the stream of training images, whose order is random. So a pair stays whole
however a batch is divided among devices and passes, as long as each takes an even number of images.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.runtime.keyed import Draws


class Mixed(NamedTuple):
    """Images, each `share` of its own and 1 - `share` of another; so are their labels."""

    images: Tensor  # (B, C, H, W)
    labels: Tensor  # int64 (B,): of the own images
    others: Tensor  # int64 (B,)
    share: Tensor  # (B,) in [0, 1]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> "Mixed":
        """Images as they are."""
        return cls(images, labels, labels, torch.ones(len(images), device=images.device))


def mixup(images: Tensor, labels: Tensor, draws: Draws, alpha: float) -> Mixed:
    """Images (B, C, H, W) and labels (B,) mixed in pairs, B even: share ~ Beta(alpha, alpha), one for each pair (their
    eq. 2). Draws are those of positions in the stream, of which the first is even.
    """
    share = symmetric_beta(Draws(draws.seed, draws.rows // 2, draws.prefix), alpha)  # (B,), equal within a pair
    weight = share[:, None, None, None]
    return Mixed(weight * images + (1 - weight) * swapped(images), labels, swapped(labels), share)


def swapped(x: Tensor) -> Tensor:
    """(B, ...) with the two of each pair in each other's place."""
    return x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def symmetric_beta(draws: Draws, alpha: float) -> Tensor:
    """Beta(alpha, alpha) by two uniforms for each row, (B,) (Ulrich 1984; Devroye, Random variate generation in one
    line of code, 1996, section 5).
    """
    u, angle = draws.uniforms("mixup", 2)
    w, cos = (1 - u) ** (1 / alpha), (2 * math.pi * angle).cos()  # 1 - u is never 0
    # 1/2 + cos sqrt(1 - w) / (2 sqrt(w + (1 - w) cos^2)): Devroye's form, multiplied out so that no term is infinite.
    spread = (1 - w).sqrt() * cos
    return (1 + spread / (w + spread.square()).sqrt().clamp(min=1e-30)) / 2
