"""Samplers: functions from a denoiser, a start state and a list of levels to images. They know no network."""

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x (B, C, H, W), sigma (B,)) to the estimate of the clean image


def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, watch: Callable[[Tensor], None] | None = None) -> Tensor:
    """EDM's deterministic sampler (Karras et al. 2022, algorithm 1): Heun's second-order steps, Euler for the last.

    x (B, C, H, W): noise of standard deviation sigmas[0]; sigmas (steps + 1,) falling to 0. The state is kept in
    float64. `watch` is given the denoised estimate (B, C, H, W) at the start of each step.
    """
    dtype, x = x.dtype, x.double()

    def slope(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        denoised = denoise(x.to(dtype), sigma.to(dtype).expand(len(x))).double()
        return (x - denoised) / sigma, denoised

    for sigma, after in zip(sigmas[:-1].to(x.device), sigmas[1:].to(x.device), strict=True):
        d, denoised = slope(x, sigma)
        if watch:
            watch(denoised.to(dtype))
        ahead = x + (after - sigma) * d
        if after > 0:
            d_ahead, _ = slope(ahead, after)
            ahead = x + (after - sigma) * (d + d_ahead) / 2
        x = ahead
    return x.to(dtype)


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] floats (B, C, H, W) to uint8 (B, H, W, C), rounded to the nearest."""
    return (x * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, H, W, C) to [-1, 1] floats (B, C, H, W), channels last in memory."""
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
