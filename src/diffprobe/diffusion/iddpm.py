"""DDPM with a learned variance (Nichol & Dhariwal, Improved denoising diffusion probabilistic models, 2021), as DiT is
trained. Equation numbers are theirs.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.levels import Levels, per_image, step_variances
from diffprobe.diffusion.process import Denoised, Network, Noised, predicted
from diffprobe.networks.compiled import constant_when_compiled
from diffprobe.networks.condition import Condition

PIXEL = 1 / 255  # half the distance of two grey levels of images in [-1, 1]
EDGE = 0.999  # beyond it are the outermost grey levels, whose bins are unbounded
TINY = 1e-12  # least probability of a bin, whose logarithm is finite


class IDDPM(DDPM):
    """The network's output has twice the image's channels: the noise, then where the log-variance of a step lies
    between its bounds, -1 at the posterior's variance and 1 at beta_t (eq. 15 with v from 0 to 1).
    """

    def __init__(
        self,
        steps: int = 1000,
        beta_min: float = 1e-4,
        beta_max: float = 0.02,
        time_input: str = "index",
        vlb_weight: float = 1e-3,
        beta_schedule: str = "linear",
    ) -> None:
        super().__init__(steps, beta_min, beta_max, time_input, beta_schedule)
        self.vlb_weight = vlb_weight
        self.bounds_on: dict[torch.device, Tensor] = {}

    def estimate(self, output: Tensor, x: Tensor, level: Levels) -> Denoised:
        noise, values = output.chunk(2, dim=1)  # (B, C, H, W) each
        return super().estimate(noise, x, level)._replace(variance_share=share(values))

    def error(self, network: Network, batch: Noised, cond: Condition) -> Tensor:
        """L_simple + lambda L_vlb (eq. 16), the bound estimated from one step t of T."""
        predicted_noise, values = predicted(network, batch.noisy, batch.level, cond).chunk(2, dim=1)
        error = predicted_noise - batch.noise
        # Detached: the bound trains the variance alone, since its gradient is too noisy for the mean (section 3.1).
        bound = self.bound(error.detach(), values, batch.clean, self.steps_of(batch.level))
        return error.square().mean() + self.vlb_weight * self.steps * bound.mean()

    def steps_of(self, level: Levels) -> Tensor:
        """The steps (B,) of levels, counted from 0, by the network's input."""
        index = level.c_noise if self.time_input == "index" else level.c_noise * self.steps - 1
        return index.round().long()

    def bound(self, error: Tensor, values: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The bound's term of each step (eq. 4 to 6) in bits per element: (B, C, H, W).

        error: of the predicted noise, (B, C, H, W), float; values: the output for the variance; t: steps (B,) from 0.
        """
        log_small, log_large, scale = (per_image(column) for column in self.bounds(x.device)[:, t])
        v = share(values.float())
        log_variance = v * log_large + (1 - v) * log_small  # eq. 15
        # The predicted mean and the posterior's are linear in the noise: they differ by its error, scaled.
        offset = scale * error
        # KL of the posterior from N(mean, variance), in nats (L_{t-1}, eq. 5).
        ratio, square = torch.exp(log_small - log_variance), offset**2 * torch.exp(-log_variance)
        kl = 0.5 * (log_variance - log_small - 1 + ratio + square)
        likelihood = log_probability(x, x - offset, torch.exp(0.5 * log_variance))  # L_0, eq. 4
        return torch.where(per_image(t) == 0, -likelihood, kl) / math.log(2)

    @constant_when_compiled  # else a compiled loss would begin with the table's computation
    def bounds(self, device: torch.device) -> Tensor:
        """By step (3, T): the logarithms of both bounds of the variance, and the factor from an error of the noise to
        one of the step's mean.
        """
        if device not in self.bounds_on:
            levels = [self.at(t) for t in range(self.steps + 1)]
            variances = [step_variances(now, after) for after, now in pairwise(levels)]
            small, large = map(list, zip(*variances, strict=True))
            # The posterior of the first step is a point: the second's variance stands for it, as in their code.
            small[0] = small[1]
            # Of eps in the mean (eq. 13).
            factors = [beta / (now.sigma * math.sqrt(1 - beta)) for now, beta in zip(levels[1:], large, strict=True)]
            columns = [list(map(math.log, small)), list(map(math.log, large)), factors]
            self.bounds_on[device] = torch.tensor(columns, device=device)
        return self.bounds_on[device]


def share(values: Tensor) -> Tensor:
    """The network's output for the variance as v of eq. 15; nothing keeps it within 0 and 1."""
    return (values + 1) / 2


def log_probability(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The logarithm of the probability of a grey level's bin under N(mean, deviation^2) (Ho et al. 2020, eq. 13).

    All (B, C, H, W). Latents are treated as pixels, as in DiT's code.
    """
    above = torch.special.ndtr((x + PIXEL - mean) / deviation)
    below = torch.special.ndtr((x - PIXEL - mean) / deviation)
    above = torch.where(x > EDGE, torch.ones_like(above), above)
    below = torch.where(x < -EDGE, torch.zeros_like(below), below)
    return (above - below).clamp(min=TINY).log()
