"""The EDM process (Karras et al., Elucidating the design space of diffusion-based generative models, 2022).

Table 1 and equation numbers are the paper's; alpha is 1.
"""

import math

from torch import Tensor

from diffprobe.config.schedules import edm_sigmas
from diffprobe.diffusion.levels import Level, Levels, per_image
from diffprobe.diffusion.process import Denoised, Network, Noised, Process
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Draws


class EDM(Process):
    """Preconditioning and log-normal training levels.

    `reduction` of the loss: the `sum` over an image, as in the paper, or the `mean`, as in DDAE. They differ by a
    constant factor, which cancels in Adam's update but not in gradient clipping.
    """

    def __init__(
        self,
        sigma_data: float = 0.5,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        reduction: str = "mean",
    ) -> None:
        self.sigma_data, self.p_mean, self.p_std = sigma_data, p_mean, p_std
        self.sigma_min, self.sigma_max, self.reduction = sigma_min, sigma_max, reduction

    def level(self, ratio: float) -> Level:
        # c_noise = ln(sigma) / 4 (table 1); the clean end of a schedule is never given to the network.
        return Level(alpha=1.0, sigma=ratio, c_noise=math.log(ratio) / 4 if ratio else -math.inf)

    def scaled(self, x: Tensor, level: Levels) -> Tensor:
        """c_in x, of unit variance at every level."""
        c_in = 1 / (per_image(level.sigma) ** 2 + self.sigma_data**2).sqrt()
        return c_in * x

    def estimate(self, output: Tensor, x: Tensor, level: Levels) -> Denoised:
        """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (eq. 7)."""
        s, d = per_image(level.sigma), self.sigma_data
        # Table 1: the target of F has unit variance, and F's errors are amplified least.
        c_skip = d**2 / (s**2 + d**2)
        c_out = s * d / (s**2 + d**2).sqrt()
        return Denoised(c_skip * x + c_out * output)

    def draw_levels(self, x: Tensor, draws: Draws) -> Levels:
        """ln sigma ~ N(p_mean, p_std^2) (table 1)."""
        # Log-normal: the loss of the highest and the lowest levels teaches little (section 5, figure 5a).
        log_sigma = self.p_mean + self.p_std * draws.normal("sigma")  # (B,)
        sigma = log_sigma.exp()
        # Ones by arithmetic, which a compiler fuses with the rest; a constant is a kernel of its own.
        return Levels(1 + 0 * log_sigma, sigma, log_sigma / 4)

    def error(self, network: Network, batch: Noised, cond: Condition) -> Tensor:
        """lambda(sigma) (D(x + sigma n; sigma) - x)^2 (eq. 2)."""
        x, sigma = batch.clean, batch.level.sigma
        clean = self.denoise(network, batch.noisy, batch.level, cond).image
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2  # lambda = 1 / c_out^2, (B,)
        loss = (per_image(weight) * (clean - x) ** 2).mean()
        return loss * x[0].numel() if self.reduction == "sum" else loss  # C H W elements of an image

    def schedule(self, steps: int, rho: float = 7.0) -> list[Level]:
        """From sigma_max down to sigma_min, then 0 (eq. 5)."""
        sigmas = edm_sigmas(steps, self.sigma_min, self.sigma_max, rho)
        return [self.level(sigma) for sigma in (*sigmas, 0.0)]

    def start(self, noise: Tensor, level: Level) -> Tensor:
        return noise * level.sigma  # N(0, sigma_max^2): the image is negligible there (algorithm 1, line 2)
