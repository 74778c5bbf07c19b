"""Images from a trained network: image i is a function of the seed and i alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffprobe.diffusion.guidance import guided
from diffprobe.diffusion.samplers import heun, to_uint8
from diffprobe.evaluation.model import Model
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Key, normal


@torch.inference_mode()
def draw(
    model: Model,
    rows: Tensor,
    seed: int,
    steps: int,
    rho: float,
    guidance: float = 1.0,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The images numbered `rows` (B,), uint8 (B, H, W, C); `watch` as in `samplers.heun`.

    A conditional network is told the label i mod K for image i, so that every class comes equally often.
    """
    sigmas = model.process.schedule(steps, rho)
    start = normal(Key(seed, "sample"), rows, model.shape) * float(sigmas[0])  # (B, C, H, W)
    label = rows % model.classes if model.classes else torch.full_like(rows, -1)  # (B,)

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return model.process.denoise(model.network, x, sigma, Condition(label))[0]

    return to_uint8(model.to_images(heun(guided(denoise, label, guidance), start, sigmas, watch)))


@torch.inference_mode()
def strip(model: Model, rows: Tensor, **options) -> Tensor:
    """How images come about: the denoised estimate at each step, then the image; uint8 (B, steps + 1, H, W, C)."""
    seen: list[Tensor] = []
    final = draw(model, rows, watch=lambda x: seen.append(to_uint8(model.to_images(x))), **options)
    return torch.stack([*seen, final], dim=1)
