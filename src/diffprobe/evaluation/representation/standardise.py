"""Features in units of their standard deviation, so that one penalty or learning rate suits all of them."""

import torch
from torch import Tensor

from diffprobe.evaluation.representation.table import Table

MIN_STD = 1e-5  # a constant feature stays at zero instead of being blown up


def statistics(table: Table, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (at least MIN_STD) of every column over images and copies, float32 (W,) each.

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
    return mean.float(), (squares / n).sqrt().clamp(min=MIN_STD).float()


def standardised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std in float32; x (S, B, W), mean and std (S, 1, W)."""
    return torch.addcmul(-mean / std, x.float(), 1 / std)  # one pass over x, without a copy of the difference
