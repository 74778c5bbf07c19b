"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.samplers import Denoiser

Conditional = Callable[[Tensor, Level, Tensor], Tensor]  # (x (B, C, H, W), level, label (B,)) to the estimate


def guided(denoise: Conditional, label: Tensor, scale: float) -> Denoiser:
    """D(x, none) + scale (D(x, label) - D(x, none)), the paper's equation 6 for the estimate of the clean image.

    label int64 (B,). Scales of 0 and 1 need one of the two alone, and cost no second evaluation.
    """
    none = torch.full_like(label, -1)
    if scale in (0, 1):
        return lambda x, level: denoise(x, level, label if scale else none)
    both = torch.cat([label, none])

    def guide(x: Tensor, level: Level) -> Tensor:
        with_label, without = denoise(torch.cat([x, x]), level, both).chunk(2)
        return without + scale * (with_label - without)

    return guide
