"""Features in units of their standard deviation, so that one penalty or learning rate suits all of them.

The mean and deviation are fixed, of all training images, or each batch's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffprobe.evaluation.representation.table import Table

MIN_STD = 1e-5  # a feature that hardly varies is not blown up
CONSTANT = 1e-7  # of its mean: the deviation of a constant in float32
BATCH_EPS = 1e-6  # added to a batch's variance, as published for SODA's probe
BATCH_SHARE = 0.1  # of the newest batch in the running moments, as in PyTorch


def statistics(table: Table, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every column over images and copies, float32 (W,) each.

    The deviation of a constant feature is 1: where it does vary in other images, a head that began with random weights
    would be ruled by it.

    Chunks are merged in float64 by the pairwise update of Chan, Golub and LeVeque (1983, eq. 2.1), which loses no
    digits where a mean is far from zero.
    """
    n, mean = 0, torch.zeros(sum(table.widths), dtype=torch.float64, device=device)
    squares = torch.zeros_like(mean)  # sum of (x - mean)^2
    for copy in range(table.copies):
        for number, size in enumerate(table.sizes):
            variance, chunk_mean = torch.var_mean(table.read(number, copy).to(device).double(), dim=0, correction=0)
            delta = chunk_mean - mean  # (W,)
            squares = squares + variance * size + delta**2 * (n * size / (n + size))
            mean, n = mean + delta * (size / (n + size)), n + size
    return mean.float(), usable(mean, (squares / n).sqrt()).float()


def usable(mean: Tensor, std: Tensor) -> Tensor:
    """Deviations to divide by: at least MIN_STD, and 1 for a constant feature."""
    return torch.where(std > CONSTANT * mean.abs(), std.clamp(min=MIN_STD), 1.0)


def standardised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std in float32; x (S, B, W), mean and std (S, 1, W)."""
    return torch.addcmul(-mean / std, x.float(), 1 / std)  # one pass over x, without a copy of the difference


@dataclass(frozen=True)
class FixedScale:
    """Mean and standard deviation (S, 1, W) that are known before training."""

    mean: Tensor
    std: Tensor

    @property
    def state(self) -> list[Tensor]:
        """What batches change."""
        return []

    def __call__(self, x: Tensor) -> Tensor:
        """Features of a batch (S, B, W), standardised."""
        return standardised(x, self.mean, self.std)


class BatchScale:
    """Batch normalisation without scale and shift (Ioffe and Szegedy 2015, algorithm 1) of S seeds' features.

    `mean` and `std` (S, 1, W) are the running ones, by which features are standardised in evaluation. A head's learning
    rate changes neither, so heads that differ in it alone share them.
    """

    def __init__(self, seeds: int, width: int, device: torch.device) -> None:
        self.mean = torch.zeros(seeds, 1, width, device=device)
        self.variance = torch.ones_like(self.mean)

    @property
    def state(self) -> list[Tensor]:
        """What batches change."""
        return [self.mean, self.variance]

    @property
    def std(self) -> Tensor:
        return (self.variance + BATCH_EPS).sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        """Features of a batch (S, B, W) standardised by its own moments, which the running ones follow."""
        b = x.shape[1]
        if b == 1:  # as the last batch of an epoch may be: one image has no deviation
            return standardised(x, self.mean, self.std)
        variance, mean = torch.var_mean(x.float(), dim=1, correction=0, keepdim=True)  # (S, 1, W) each
        self.mean.lerp_(mean.detach(), BATCH_SHARE)
        self.variance.lerp_(variance.detach() * (b / (b - 1)), BATCH_SHARE)  # the unbiased one, as in the paper
        return standardised(x, mean, (variance + BATCH_EPS).sqrt())
