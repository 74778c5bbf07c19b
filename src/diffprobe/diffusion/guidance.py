"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Denoised
from diffprobe.diffusion.samplers import Denoiser

Conditional = Callable[[Tensor, Level, Tensor], Denoised]  # of x (B, C, H, W), its level, labels (B,)


def guided(denoise: Conditional, label: Tensor, scale: float) -> Denoiser:
    """D(x, none) + scale (D(x, label) - D(x, none)): the paper's equation 6 for the estimate of the
    clean image, with scale = 1 + w.

    label int64 (B,). Scales of 0 and 1 need one of the two alone, and cost no second evaluation. A learned variance is
    the conditional one, as in DiT's code.
    """
    none = torch.full_like(label, -1)
    if scale in (0, 1):
        return lambda x, level: denoise(x, level, label if scale else none)
    both = torch.cat([label, none])  # (2B,)

    def guide(x: Tensor, level: Level) -> Denoised:
        pair = denoise(torch.cat([x, x]), level, both)  # one pass of 2B images
        with_label, without = pair.image.chunk(2)
        log_variance = None if pair.log_variance is None else pair.log_variance.chunk(2)[0]
        return Denoised(without + scale * (with_label - without), log_variance=log_variance)

    return guide
