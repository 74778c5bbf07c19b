"""Images from a trained network: image i is a function of the seed and i alone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.samplers import heun, to_uint8
from diffprobe.runtime.keyed import Key, normal


@torch.inference_mode()
def draw(
    network: nn.Module,
    process: EDM,
    rows: Tensor,
    shape: tuple[int, int, int],
    seed: int,
    steps: int,
    rho: float,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The images numbered `rows` (B,), uint8 (B, H, W, C), of shape (C, H, W); `watch` as in `samplers.heun`."""
    sigmas = process.schedule(steps, rho)
    start = normal(Key(seed, "sample"), rows, shape) * float(sigmas[0])  # (B, C, H, W)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return process.denoise(network, x.contiguous(memory_format=torch.channels_last), sigma)[0]

    return to_uint8(heun(denoise, start, sigmas, watch))


def strip(network: nn.Module, process: EDM, rows: Tensor, shape: tuple[int, int, int], **options) -> Tensor:
    """How images come about: the denoised estimate at each step, then the image; uint8 (B, steps + 1, H, W, C)."""
    seen: list[Tensor] = []
    final = draw(network, process, rows, shape, watch=lambda x: seen.append(to_uint8(x)), **options)
    return torch.stack([*seen, final], dim=1)
