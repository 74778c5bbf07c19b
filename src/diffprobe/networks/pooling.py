"""From the activation of a tap to one vector per image, to one per position, or to a map of these."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mean(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C); a vector (B, D) stays as it is."""
    return h.mean(dim=(2, 3)) if h.ndim == 4 else h


def mean_std(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 2C): means, then standard deviations; a vector (B, D), which has none, stays as it is."""
    if h.ndim == 2:
        return h
    std, average = torch.std_mean(h, dim=(2, 3), correction=0)
    return torch.cat([average, std], dim=1)


def quadrants(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C): of each channel the means of its four quadrants (Coates et al. 2011, section 3.2), row
    by row; of an odd height or width both halves have the middle. A vector (B, D), which has none, stays as it is.
    """
    return F.adaptive_avg_pool2d(h, 2).flatten(1) if h.ndim == 4 else h


def tokens(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, HW, C): the features of every position; a vector (B, D) is one token."""
    return h.flatten(2).mT if h.ndim == 4 else h[:, None]


def whole(h: Tensor) -> Tensor:
    """(B, C, H, W) as it is, and so is a vector (B, D)."""
    return h


POOLINGS = {"mean": mean, "mean_std": mean_std, "quadrants": quadrants, "tokens": tokens, "map": whole}
