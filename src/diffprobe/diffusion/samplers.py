"""Samplers: functions from a denoiser, a start state and a list of levels to images. They know no network.

Each takes x (B, C, H, W), the state at levels[0], and falling levels, and ends at the last one. The state is kept in
float64. `noise(i)` is the normal noise (B, C, H, W) of step i; `watch` is given the estimate of the clean image at the
start of each step.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level

Denoiser = Callable[[Tensor, Level], Tensor]  # (x (B, C, H, W), its level) to the estimate of the clean image
Noise = Callable[[int], Tensor]
Watch = Callable[[Tensor], object]


def clipped(denoise: Denoiser) -> Denoiser:
    """Estimates within [-1, 1], where pixels are: what DDPM's and DDAE's samplers do."""
    return lambda x, level: denoise(x, level).clamp(-1, 1)


def ancestral(
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    variance: str = "large",
    watch: Watch | None = None,
) -> Tensor:
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for any levels with alpha above 0.

    `variance` of a step: `large`, beta_t, or `small`, that of the posterior (section 3.2).
    """
    dtype, x = x.dtype, x.double()
    for i, now, after in steps(levels):
        _, eps = estimates(denoise, x, now, dtype, watch)
        ratio = now.alpha / after.alpha
        fresh = now.sigma**2 - ratio**2 * after.sigma**2  # the variance that this step added: beta_t
        x = (x - fresh / now.sigma * eps) / ratio
        if after.sigma:
            scale = fresh if variance == "large" else fresh * after.sigma**2 / now.sigma**2
            x = x + math.sqrt(scale) * noise(i).double()
    return x.to(dtype)


def ddim(
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    eta: float = 0.0,
    watch: Watch | None = None,
) -> Tensor:
    """DDIM (Song et al., Denoising diffusion implicit models, 2021, eq. 12 and 16): deterministic at eta = 0, DDPM's
    sampler with the small variance at 1.
    """
    dtype, x = x.dtype, x.double()
    for i, now, after in steps(levels):
        clean, eps = estimates(denoise, x, now, dtype, watch)
        fresh = now.sigma**2 - (now.alpha / after.alpha) ** 2 * after.sigma**2
        added = eta * math.sqrt(fresh) * after.sigma / now.sigma
        x = after.alpha * clean + math.sqrt(after.sigma**2 - added**2) * eps
        if added:
            x = x + added * noise(i).double()
    return x.to(dtype)


def euler(denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: Noise, watch: Watch | None = None) -> Tensor:
    """Euler's steps along the probability flow, of first order. Image and noise keep their estimates over a step, so
    for EDM this is Euler in sigma, for flow matching Euler in t.
    """
    dtype, x = x.dtype, x.double()
    for _, now, after in steps(levels):
        clean, eps = estimates(denoise, x, now, dtype, watch)
        x = moved(x, now, after, clean, eps)
    return x.to(dtype)


def heun(
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    raised: Sequence[Level] = (),
    inflate: float = 1.0,
    watch: Watch | None = None,
) -> Tensor:
    """Heun's steps along the probability flow, of second order; Euler's for the last, to no noise (Karras et al. 2022,
    algorithm 1; for flow matching the same in t).

    With `raised` levels a step begins with noise, `inflate` times what leads there (algorithm 2).
    """
    dtype, x = x.dtype, x.double()
    for i, now, after in steps(levels):
        if raised and raised[i].sigma > now.sigma:
            x = x + math.sqrt(raised[i].sigma ** 2 - now.sigma**2) * inflate * noise(i).double()
            now = raised[i]
        clean, eps = estimates(denoise, x, now, dtype, watch)
        ahead = moved(x, now, after, clean, eps)
        if after.sigma:
            clean_ahead, eps_ahead = estimates(denoise, ahead, after, dtype)
            ahead = moved(x, now, after, (clean + clean_ahead) / 2, (eps + eps_ahead) / 2)
        x = ahead
    return x.to(dtype)


def steps(levels: Sequence[Level]) -> Iterator[tuple[int, Level, Level]]:
    """Each step's number, the level where it begins and that where it ends."""
    return ((i, now, after) for i, (now, after) in enumerate(pairwise(levels)))


def estimates(
    denoise: Denoiser, x: Tensor, level: Level, dtype: torch.dtype, watch: Watch | None = None
) -> tuple[Tensor, Tensor]:
    """Image and noise that the state x is taken to consist of: x = alpha image + sigma noise; float64."""
    clean = denoise(x.to(dtype), level)
    if watch:
        watch(clean)
    clean = clean.double()
    return clean, (x - level.alpha * clean) / level.sigma


def moved(x: Tensor, now: Level, after: Level, clean: Tensor, eps: Tensor) -> Tensor:
    """The state at another level when image and noise stay."""
    return x + (after.alpha - now.alpha) * clean + (after.sigma - now.sigma) * eps
