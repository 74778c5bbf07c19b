"""Flow matching on the straight path between image and noise (Lipman et al., Flow matching for generative modeling,
2023; Liu et al., Flow straight and fast, 2023): alpha = 1 - t, sigma = t, the network predicts the velocity n - x.
"""

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level, Levels, per_image
from diffprobe.diffusion.process import Denoised, Network, Noised, Process, predicted
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Draws


class Flow(Process):
    """`t` in training: `uniform`, or `logit_normal`, the logistic function of N(t_mean, t_std^2) (Esser et al., Scaling
    rectified flow transformers, 2024, eq. 19). t is the network's c_noise.
    """

    def __init__(self, t: str = "uniform", t_mean: float = 0.0, t_std: float = 1.0) -> None:
        self.t, self.t_mean, self.t_std = t, t_mean, t_std

    def at(self, t: float) -> Level:
        return Level(alpha=1 - t, sigma=t, c_noise=t)

    def level(self, ratio: float) -> Level:
        return self.at(ratio / (1 + ratio))  # sigma/alpha = t / (1 - t), solved for t

    def estimate(self, output: Tensor, x: Tensor, level: Levels) -> Denoised:
        """x_0 from the predicted velocity v: x_t = x_0 + t (n - x_0), so x_0 = x_t - t v."""
        return Denoised(x - per_image(level.sigma) * output)

    def draw_levels(self, x: Tensor, draws: Draws) -> Levels:
        t = draws.uniform("t") if self.t == "uniform" else self.logit_normal(draws)  # (B,)
        return Levels(1 - t, t, t)  # alpha, sigma, c_noise

    def error(self, network: Network, batch: Noised, cond: Condition) -> Tensor:
        """|v(x_t, t) - (n - x)|^2, the mean over elements (Lipman et al., eq. 23 with sigma_min = 0)."""
        velocity = batch.noise - batch.clean
        return (predicted(network, batch.noisy, batch.level, cond) - velocity).square().mean()

    def logit_normal(self, draws: Draws) -> Tensor:
        return torch.sigmoid(self.t_mean + self.t_std * draws.normal("t"))  # (B,)

    def schedule(
        self, steps: int, shift: float = 1.0, first_time: float = 1.0, last_time: float | None = None
    ) -> list[Level]:
        """Evenly spaced t from 1 to 0, moved towards noise by `shift`: s t / (1 + (s - 1) t) (Esser et al., eq. 23).

        With a `last_time` evenly from the first to the last of `steps` times, then 0.
        """
        if last_time is None:
            times = [1 - i / steps for i in range(steps + 1)]
        else:
            times = [first_time + (last_time - first_time) * i / (steps - 1) for i in range(steps)] + [0.0]
        return [self.at(shift * t / (1 + (shift - 1) * t)) for t in times]
