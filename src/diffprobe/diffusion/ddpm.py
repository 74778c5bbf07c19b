"""The DDPM process (Ho et al., Denoising diffusion probabilistic models, 2020): discrete steps, noise prediction."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffprobe.config.schedules import ddae_abar, linear_abar, nearest, ratios, spaced
from diffprobe.diffusion.levels import Level, Levels, per_image
from diffprobe.diffusion.process import Found, Network, perturb
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.runtime.keyed import Draws


class DDPM:
    """alpha = sqrt(abar_t), sigma = sqrt(1 - abar_t) for t = 1 .. `steps`, betas rising linearly.

    `time_input` is what the network is told: the `index` t - 1 = 0 .. 999, as in the paper's code, or the `fraction`
    t/T in (0, 1], as DDAE does. `table` is the one that samplers read: `exact`, that of training, or `ddae`, DDAE's,
    which is off by one.
    """

    def __init__(
        self,
        steps: int = 1000,
        beta_min: float = 1e-4,
        beta_max: float = 0.02,
        time_input: str = "index",
        table: str = "exact",
    ) -> None:
        self.steps, self.time_input = steps, time_input
        self.abar = linear_abar(steps, beta_min, beta_max)
        self.sampled = ddae_abar(steps, beta_min, beta_max) if table == "ddae" else self.abar
        self.ratios = ratios(self.abar)
        self.tables: dict[torch.device, Levels] = {}

    def at(self, t: int, abar: Sequence[float] | None = None) -> Level:
        """The level of step t, 1 .. T in training; t = 0 is where sampling ends."""
        a = (abar or self.abar)[t]
        c_noise = t - 1 if self.time_input == "index" else t / self.steps
        return Level(math.sqrt(a), math.sqrt(1 - a), float(c_noise))

    def level(self, ratio: float) -> Level:
        return self.at(nearest(ratio, self.ratios))

    def denoise(
        self,
        network: Network,
        x: Tensor,
        level: Levels,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> Found:
        """x_0 from the predicted noise, (x_t - sigma eps) / alpha (eq. 15); see `Process.denoise`."""
        noise, found = network(x, level.c_noise, cond, taps, features_only)
        return (None if noise is None else (x - per_image(level.sigma) * noise) / per_image(level.alpha)), found

    def loss(self, network: Network, x: Tensor, draws: Draws, cond: Condition = NOTHING) -> Tensor:
        """|n - eps(x_t, t)|^2 with t uniform over 1 .. T (eq. 14), the mean over elements."""
        t = (draws.uniform("t") * self.steps).long()  # (B,), 0 .. T - 1 stand for 1 .. T
        level = Levels(*(values[t] for values in self.levels(x.device)))
        noise = draws.normal("noise", tuple(x.shape[1:]))  # (B, C, H, W)
        predicted, _ = network(perturb(x, level, noise), level.c_noise, cond)
        return (predicted - noise).square().mean()

    def levels(self, device: torch.device) -> Levels:
        """All levels of training, each tensor (T,)."""
        if device not in self.tables:
            columns = zip(*(self.at(t) for t in range(1, self.steps + 1)), strict=True)
            self.tables[device] = Levels(*(torch.tensor(column, device=device) for column in columns))
        return self.tables[device]

    def schedule(self, steps: int | None = None) -> list[Level]:
        """Evenly spaced steps (all of them without a number), then the clean image; of the table for sampling."""
        return [self.at(t, self.sampled) for t in (*spaced(steps or self.steps, self.steps), 0)]

    def start(self, noise: Tensor, level: Level) -> Tensor:
        return noise
