"""The DDPM process (Ho et al., Denoising diffusion probabilistic models, 2020): discrete steps, noise prediction."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffprobe.config.schedules import ddae_abar, discrete_abar, nearest, ratios, spaced
from diffprobe.diffusion.levels import Level, Levels, per_image
from diffprobe.diffusion.process import Denoised, Network, Noised, Process, predicted
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Draws


class DDPM(Process):
    """alpha = sqrt(abar_t), sigma = sqrt(1 - abar_t) for t = 1 .. `steps`, betas rising linearly (section 4) or
    as another `beta_schedule` of `config.schedules` says.

    `time_input` is the network's c_noise: the `index` t - 1 = 0 .. 999, as in the paper's code, or the `fraction` t/T
    in (0, 1], as in DDAE.
    """

    def __init__(
        self,
        steps: int = 1000,
        beta_min: float = 1e-4,
        beta_max: float = 0.02,
        time_input: str = "index",
        beta_schedule: str = "linear",
    ) -> None:
        self.steps, self.beta_min, self.beta_max, self.time_input = steps, beta_min, beta_max, time_input
        # Tables as plain floats: a level is computed once, in double precision.
        self.abar = discrete_abar(beta_schedule, steps, beta_min, beta_max)
        self.ratios = ratios(self.abar)
        self.levels_on: dict[torch.device, Levels] = {}  # one copy a device, so that no loss waits for a transfer

    def at(self, t: int, abar: Sequence[float] | None = None) -> Level:
        """The level of step t: 1 .. T in training, 0 where sampling ends. `abar`: another table than training's."""
        a = (abar or self.abar)[t]
        c_noise = t - 1 if self.time_input == "index" else t / self.steps
        return Level(math.sqrt(a), math.sqrt(1 - a), float(c_noise))

    def level(self, ratio: float) -> Level:
        return self.at(nearest(ratio, self.ratios))

    def estimate(self, output: Tensor, x: Tensor, level: Levels) -> Denoised:
        """x_0 from the predicted noise, (x_t - sigma eps) / alpha (eq. 15)."""
        return Denoised((x - per_image(level.sigma) * output) / per_image(level.alpha))

    def draw_levels(self, x: Tensor, draws: Draws) -> Levels:
        """t uniform over 1 .. T."""
        t = (draws.uniform("t") * self.steps).long()  # (B,), 0 .. T - 1 stand for 1 .. T
        return Levels(*(values[t] for values in self.levels(x.device)))

    def error(self, network: Network, batch: Noised, cond: Condition) -> Tensor:
        """|n - eps(x_t, t)|^2 (eq. 14), the mean over elements."""
        return (predicted(network, batch.noisy, batch.level, cond) - batch.noise).square().mean()

    def levels(self, device: torch.device) -> Levels:
        """All levels of training, each tensor (T,)."""
        if device not in self.levels_on:
            columns = zip(*(self.at(t) for t in range(1, self.steps + 1)), strict=True)
            self.levels_on[device] = Levels(*(torch.tensor(column, device=device) for column in columns))
        return self.levels_on[device]

    def schedule(
        self, steps: int | None = None, table: str = "exact", spacing: str | Sequence[int] = "even"
    ) -> list[Level]:
        """Some of the steps (None: all of them), spaced by a rule of `config.schedules.spaced`, then step 0, the clean
        image.

        `table`: `exact`, that of training, or `ddae`, the one that DDAE's code reads, which is off by one step.
        """
        abar = ddae_abar(self.steps, self.beta_min, self.beta_max) if table == "ddae" else self.abar
        return [self.at(t, abar) for t in (*spaced(steps or self.steps, self.steps, spacing), 0)]
