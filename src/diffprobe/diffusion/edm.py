"""The EDM process (Karras et al., Elucidating the design space of diffusion-based generative models, 2022)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.runtime.keyed import Draws

Network = Callable[..., tuple[Tensor | None, dict[str, Tensor]]]


class EDM:
    """Owns scalings, the network's input and the loss; table 1 and equation numbers are the paper's."""

    def __init__(
        self,
        sigma_data: float = 0.5,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
    ) -> None:
        self.sigma_data, self.p_mean, self.p_std = sigma_data, p_mean, p_std
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    @classmethod
    def of(cls, config: dict) -> "EDM":
        """The process of a config subtree."""
        return cls(**{key: value for key, value in config.items() if key != "kind"})

    def level(self, sigma: float) -> Level:
        return Level(alpha=1.0, sigma=sigma, c_noise=math.log(sigma) / 4)

    def perturb(self, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """x + sigma n; x, noise (B, C, H, W), sigma (B,)."""
        return x + sigma[:, None, None, None] * noise

    def denoise(
        self,
        network: Network,
        x: Tensor,
        sigma: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """D(x; sigma), the estimate of the clean image (eq. 7), and the tapped activations.

        x (B, C, H, W) with noise of standard deviation sigma (B,).
        """
        s, d = sigma[:, None, None, None], self.sigma_data
        c_skip = d**2 / (s**2 + d**2)
        c_out = s * d / (s**2 + d**2).sqrt()
        c_in = 1 / (s**2 + d**2).sqrt()
        out, found = network(c_in * x, sigma.log() / 4, cond, taps, features_only)
        return (None if out is None else c_skip * x + c_out * out), found

    def loss(self, network: Network, x: Tensor, draws: Draws, cond: Condition = NOTHING) -> Tensor:
        """lambda(sigma) (D(x + sigma n; sigma) - x)^2 with ln sigma ~ N(p_mean, p_std^2) (eq. 2, table 1).

        The mean over elements where the paper sums over an image: a constant factor, to which Adam is blind.
        """
        sigma = (self.p_mean + self.p_std * draws.normal("sigma")).exp()  # (B,)
        noise = draws.normal("noise", tuple(x.shape[1:]))  # (B, C, H, W)
        denoised, _ = self.denoise(network, self.perturb(x, sigma, noise), sigma, cond)
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2  # (B,)
        return (weight[:, None, None, None] * (denoised - x) ** 2).mean()

    def schedule(self, steps: int, rho: float = 7.0) -> Tensor:
        """Sampling levels from sigma_max down to sigma_min, then 0: float64 (steps + 1,) (eq. 5)."""
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = self.sigma_max ** (1 / rho), self.sigma_min ** (1 / rho)
        return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])
