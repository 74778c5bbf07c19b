"""Samplers: from a start state, along falling noise levels, to images. They depend on no network.

Each is a function of a trajectory, the state x (B, C, H, W) at its first level, and the sampler's own settings
(config/samplers.py). It returns the state at the last level. States are float64: the differences of neighbouring
levels are small, and errors would add up over hundreds of steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level, step_variances
from diffprobe.diffusion.process import Denoised

if TYPE_CHECKING:
    from diffprobe.config.samplers.ancestral import Ancestral
    from diffprobe.config.samplers.ddim import DDIM
    from diffprobe.config.samplers.euler import Euler
    from diffprobe.config.samplers.heun import Heun

Denoiser = Callable[[Tensor, Level], Denoised]  # of x (B, C, H, W) and its level
Noise = Callable[[int], Tensor]  # of step i: normal noise (B, C, H, W)
Watch = Callable[[Tensor, Tensor, Level], object]  # of the estimate of the clean image, the state and its level


class Trajectory(NamedTuple):
    """What a sampler walks along."""

    denoise: Denoiser
    levels: Sequence[Level]
    noise: Noise
    level_at: Callable[[float], Level]  # the process's level of a sigma/alpha that is not among `levels`
    watch: Watch | None = None  # called at the start of each step
    dtype: torch.dtype = torch.float32  # of what the denoiser is given

    def steps(self) -> Iterator[tuple[int, Level, Level]]:
        """Each step's number, the level where it begins and the one where it ends."""
        return ((i, now, after) for i, (now, after) in enumerate(pairwise(self.levels)))

    def estimates(self, x: Tensor, level: Level, first: bool = True) -> tuple[Tensor, Tensor]:
        """The image and the noise that the state consists of by the network's estimate, float64:
        x = alpha image + sigma noise. `first` of its step: it is watched.
        """
        return split(x, level, self.denoised(x, level, first).image)

    def denoised(self, x: Tensor, level: Level, first: bool = True) -> Denoised:
        """All that the network's pass gives for the state."""
        denoised = self.denoise(x.to(self.dtype), level)
        if self.watch and first:
            self.watch(denoised.image, x, level)
        return denoised


def split(x: Tensor, level: Level, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The clean image and the noise that the state x consists of, float64."""
    clean = clean.double()
    return clean, (x - level.alpha * clean) / level.sigma


def clipped(denoise: Denoiser) -> Denoiser:
    """Estimates within [-1, 1], where pixels are: what DDPM's and DDAE's samplers do."""

    def clip(x: Tensor, level: Level) -> Denoised:
        denoised = denoise(x, level)
        return denoised._replace(x0=denoised.image.clamp(-1, 1))

    return clip


def ancestral(trajectory: Trajectory, x: Tensor, settings: "Ancestral") -> Tensor:
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for any levels with alpha above 0.

    A learned variance lies between the posterior's and beta_t by its share v of the latter's logarithm (Nichol &
    Dhariwal 2021, eq. 15). Both are those of the step that is taken, which may span several of training.
    """
    for i, now, after in trajectory.steps():
        denoised = trajectory.denoised(x, now)
        _, eps = split(x, now, denoised.image)
        small, large = step_variances(now, after)
        x = (x - large / now.sigma * eps) / (now.alpha / after.alpha)  # eq. 11
        if after.sigma:
            deviation = (
                learned_deviation(small, large, denoised)
                if settings.variance == "learned"
                else math.sqrt(large if settings.variance == "large" else small)
            )
            x = x + deviation * trajectory.noise(i).double()
    return x


def learned_deviation(small: float, large: float, denoised: Denoised) -> Tensor:
    """The square root of the variance between two bounds, (B, C, H, W)."""
    if denoised.variance_share is None:
        raise ValueError("variance: learned, of a process that learns none")
    v = denoised.variance_share.double()
    return torch.exp((v * math.log(large) + (1 - v) * math.log(small)) / 2)


def ddim(trajectory: Trajectory, x: Tensor, settings: "DDIM") -> Tensor:
    """DDIM (Song et al., Denoising diffusion implicit models, 2021): deterministic at eta = 0, and at 1 DDPM's sampler
    with the small variance.

    The last step adds no noise. This matters for DDAE's table only, which ends above zero noise: their code lowers the
    share of the predicted noise there as in any step, and leaves out the fresh noise that would make up for it.
    """
    last = len(trajectory.levels) - 2
    for i, now, after in trajectory.steps():
        clean, eps = trajectory.estimates(x, now)
        fresh = now.sigma**2 - (now.alpha / after.alpha) ** 2 * after.sigma**2
        added = settings.eta * math.sqrt(fresh) * after.sigma / now.sigma  # the deviation of fresh noise (eq. 16)
        x = after.alpha * clean + math.sqrt(after.sigma**2 - added**2) * eps  # eq. 12
        if added and i != last:
            x = x + added * trajectory.noise(i).double()
    return x


def euler(trajectory: Trajectory, x: Tensor, settings: "Euler") -> Tensor:
    """Euler's steps along the probability flow, of first order. Image and noise keep their estimates over a step, so
    for EDM this is Euler in sigma, for flow matching Euler in t.
    """
    for _, now, after in trajectory.steps():
        x = moved(x, now, after, *trajectory.estimates(x, now))
    return x


def heun(trajectory: Trajectory, x: Tensor, settings: "Heun") -> Tensor:
    """Heun's steps along the probability flow, of second order; Euler's for the last, to no noise (Karras et al. 2022,
    algorithm 1; for flow matching the same in t). With `churn` steps begin with added noise (algorithm 2).
    """
    # gamma of algorithm 2: the share by which a step's level is raised; sqrt(2) - 1 at most doubles its variance.
    gamma = min(settings.churn / (len(trajectory.levels) - 1), math.sqrt(2) - 1)
    for i, now, after in trajectory.steps():
        if gamma and settings.churn_min <= now.sigma <= settings.churn_max:
            raised = trajectory.level_at(now.sigma * (1 + gamma))
            added = math.sqrt(raised.sigma**2 - now.sigma**2) * settings.churn_noise
            x, now = x + added * trajectory.noise(i).double(), raised
        clean, eps = trajectory.estimates(x, now)
        ahead = moved(x, now, after, clean, eps)
        if after.sigma:
            # The trapezoidal rule: the step again, with the mean of the estimates at both ends.
            clean_ahead, eps_ahead = trajectory.estimates(ahead, after, first=False)
            ahead = moved(x, now, after, (clean + clean_ahead) / 2, (eps + eps_ahead) / 2)
        x = ahead
    return x


def moved(x: Tensor, now: Level, after: Level, clean: Tensor, eps: Tensor) -> Tensor:
    """The state at another level when image and noise stay: dx = clean d(alpha) + eps d(sigma)."""
    return x + (after.alpha - now.alpha) * clean + (after.sigma - now.sigma) * eps
