"""A noise level: x_noisy = alpha x + sigma n, and what the network is told of it."""

import math
from typing import NamedTuple

from diffprobe.config.names import level_name


class Level(NamedTuple):
    """One noise level. `c_noise` is the network's input; a process fills it in."""

    alpha: float
    sigma: float
    c_noise: float

    @property
    def name(self) -> str:
        return level_name(self.sigma / self.alpha)

    @property
    def log_snr(self) -> float:
        """ln(alpha^2 / sigma^2)."""
        return 2 * math.log(self.alpha / self.sigma)
