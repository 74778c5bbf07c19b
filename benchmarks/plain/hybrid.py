"""The hybrid loss of Nichol & Dhariwal (2021), by which DiT is trained, as the peers write it: tables in double
precision, looked up anew for every coefficient, both means of a step, and both branches of the bound for all images.
Equation numbers are theirs.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 1000


def looked_up(table: np.ndarray, t: Tensor, x: Tensor) -> Tensor:
    values = torch.from_numpy(table).to(t.device)[t].float()
    return values.view(-1, 1, 1, 1).expand(x.shape)


def image_means(x: Tensor) -> Tensor:
    return x.mean(dim=list(range(1, x.ndim)))


class HybridLoss:
    """`network(x, t, *cond)` returns the noise and, in as many channels again, the variance's share, from -1 to 1."""

    def __init__(self) -> None:
        beta = np.linspace(1e-4, 0.02, STEPS, dtype=np.float64)
        abar = np.cumprod(1 - beta)
        before = np.append(1.0, abar[:-1])
        self.sqrt_abar, self.sqrt_rest = np.sqrt(abar), np.sqrt(1 - abar)
        self.recip_abar, self.recip_rest = np.sqrt(1 / abar), np.sqrt(1 / abar - 1)
        variance = beta * (1 - before) / (1 - abar)  # eq. 10
        self.log_small, self.log_large = np.log(np.append(variance[1], variance[1:])), np.log(beta)
        self.of_x0 = beta * np.sqrt(before) / (1 - abar)  # eq. 11
        self.of_x = (1 - before) * np.sqrt(1 - beta) / (1 - abar)

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randint(0, STEPS, (x.shape[0],), device=x.device), torch.randn_like(x)

    def __call__(self, network: nn.Module, x: Tensor, t: Tensor, noise: Tensor, *cond: Tensor) -> Tensor:
        x_t = looked_up(self.sqrt_abar, t, x) * x + looked_up(self.sqrt_rest, t, x) * noise
        eps, values = torch.split(network(x_t, t, *cond), x.shape[1], dim=1)
        bound = self.bound(x, x_t, t, eps.detach(), values)
        return (image_means((noise - eps) ** 2) + bound).mean()  # eq. 16: lambda = 0.001, times 1,000 steps

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return looked_up(self.of_x0, t, x_t) * x0 + looked_up(self.of_x, t, x_t) * x_t

    def bound(self, x: Tensor, x_t: Tensor, t: Tensor, eps: Tensor, values: Tensor) -> Tensor:
        """The bound's term (eq. 4 to 6) of every image in bits per element, (B,)."""
        share = (values + 1) / 2
        small, large = looked_up(self.log_small, t, x_t), looked_up(self.log_large, t, x_t)
        log_variance = share * large + (1 - share) * small  # eq. 15
        x0 = looked_up(self.recip_abar, t, x_t) * x_t - looked_up(self.recip_rest, t, x_t) * eps
        mean, true_mean = self.posterior_mean(x0, x_t, t), self.posterior_mean(x, x_t, t)
        squares = torch.exp(small) + (true_mean - mean) ** 2
        kl = (log_variance - small + squares / torch.exp(log_variance) - 1) / 2
        likelihood = log_probability(x, mean, 0.5 * log_variance)
        return torch.where(t == 0, -image_means(likelihood), image_means(kl)) / math.log(2.0)


def cdf(x: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def log_probability(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Of grey levels under a normal distribution (Ho et al. 2020, eq. 13)."""
    deviation = torch.exp(log_deviation)
    above, below = (cdf((x + edge - mean) / deviation) for edge in (1 / 255, -1 / 255))
    bins = torch.where(x > 0.999, 1 - below, torch.where(x < -0.999, above, above - below))
    return torch.log(bins.clamp(min=1e-12))
