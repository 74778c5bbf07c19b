"""Classifier-free guidance (Ho & Salimans 2022), of some channels or at some levels only."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Denoised
from diffprobe.diffusion.samplers import Denoiser

Conditional = Callable[[Tensor, Level, Tensor], Denoised]  # of x (B, C, H, W), its level, labels (B,)
Channels = Literal["all"] | int
Interval = Sequence[float | None]


def guided(
    denoise: Conditional, label: Tensor, scale: float, channels: Channels = "all", interval: Interval | None = None
) -> Denoiser:
    """D(x, none) + scale (D(x, label) - D(x, none)): the paper's equation 6 for the estimate of the
    clean image, with scale = 1 + w.

    label int64 (B,). Scales of 0 and 1 need one of the two alone, and cost no second evaluation; neither do levels
    whose sigma/alpha is outside the `interval` from low to high, None without bound, which are conditional
    (Kynkäänniemi et al., Applying guidance in a limited interval, 2024). With a number of `channels` only the first are
    guided and the others conditional: DiT's code guides 3 of 4. A learned variance is conditional, too.
    """
    none = torch.full_like(label, -1)
    if scale == 1 or (scale == 0 and channels == "all" and interval is None):
        return lambda x, level: denoise(x, level, label if scale else none)
    both = torch.cat([label, none])  # (2B,)
    low, high = interval or (None, None)

    def guide(x: Tensor, level: Level) -> Denoised:
        if interval is not None and not (low or 0) <= level.ratio <= (math.inf if high is None else high):
            return denoise(x, level, label)
        pair = denoise(torch.cat([x, x]), level, both)  # one pass of 2B images
        with_label, without = pair.image.chunk(2)
        image = without + scale * (with_label - without)
        if channels != "all":
            image = torch.cat([image[:, :channels], with_label[:, channels:]], dim=1)
        variance = None if pair.variance_share is None else pair.variance_share.chunk(2)[0]
        return Denoised(image, variance_share=variance)

    return guide
