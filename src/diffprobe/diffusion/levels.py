"""A noise level: x_noisy = alpha x + sigma n, and what the network is told of it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.config.names import level_name


class Level(NamedTuple):
    """One noise level. `c_noise` is the network's input; a process fills it in."""

    alpha: float
    sigma: float
    c_noise: float

    @property
    def name(self) -> str:
        return level_name(self.ratio)

    @property
    def ratio(self) -> float:
        """sigma/alpha, by which levels of all processes compare; infinite for pure noise."""
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def log_snr(self) -> float:
        """ln(alpha^2 / sigma^2)."""
        return 2 * math.log(self.alpha / self.sigma)

    def of(self, x: Tensor) -> "Levels":
        """This level for each image of a batch (B, C, H, W)."""
        return Levels(*(torch.full((len(x),), value, dtype=torch.float32, device=x.device) for value in self))


class Levels(NamedTuple):
    """The levels of a batch, each a tensor (B,)."""

    alpha: Tensor
    sigma: Tensor
    c_noise: Tensor


def per_image(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1), to be multiplied with images."""
    return values[:, None, None, None]
