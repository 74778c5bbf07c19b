"""A noise level: x_noisy = alpha x + sigma n, and the number by which the network is conditioned on it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.config.names import level_name, level_title


class Level(NamedTuple):
    """One noise level. `c_noise` is the network's input; a process fills it in."""

    alpha: float
    sigma: float
    c_noise: float

    @property
    def name(self) -> str:
        return level_name(self.ratio)

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return level_title(self.ratio)

    @property
    def ratio(self) -> float:
        """sigma/alpha, by which levels of all processes compare; infinite for pure noise."""
        return self.sigma / self.alpha if self.alpha else math.inf  # flow matching at t = 1

    @property
    def log_snr(self) -> float:
        """ln(alpha^2 / sigma^2); infinite for a clean image."""
        return 2 * math.log(self.alpha / self.sigma) if self.sigma else math.inf

    def of(self, x: Tensor) -> "Levels":
        """This level for each image of a batch (B, C, H, W)."""
        return Levels(*(torch.full((len(x),), value, dtype=torch.float32, device=x.device) for value in self))


CLEAN = Level(alpha=1.0, sigma=0.0, c_noise=0.0)  # an image as it is, for networks that see no noise


class Levels(NamedTuple):
    """The levels of a batch, each a tensor (B,)."""

    alpha: Tensor
    sigma: Tensor
    c_noise: Tensor


def step_variances(now: Level, after: Level) -> tuple[float, float]:
    """The variances of a step from a level to a lower one: the posterior's, and the larger beta_t, which the noising
    step added (Ho et al. 2020, eq. 7 and section 3.2).
    """
    beta = now.sigma**2 - (now.alpha / after.alpha) ** 2 * after.sigma**2
    return beta * after.sigma**2 / now.sigma**2, beta


def per_image(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1), to be multiplied with images."""
    return values[:, None, None, None]
