"""Moving averages of the weights, and how fast they forget."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from diffprobe.runtime.located import located

if TYPE_CHECKING:
    from diffprobe.config.training import Average, DDAERamp, HalfLife


def decay(average: "Average", step: int, batch: int) -> float:
    """The decay of an average, by its settings (config/training.py), for the update after step `step`, from 1 on."""
    return located(average.build)(average, step, batch)


def half_life(average: "HalfLife", step: int, batch: int) -> float:
    """A weight's influence halves every `kimg` thousand images (Karras et al. 2022, appendix F.2)."""
    # The ramp: a half-life of at most this share of the images seen, or a young average would be initial weights.
    images = min(1000 * average.kimg, average.ramp * step * batch)
    return 0.5 ** (batch / max(images, 1e-8))  # a half-life near 0 images: the average is the weights themselves


def ddae(average: "DDAERamp", step: int, batch: int) -> float:
    """DDAE's ramp, that of ema-pytorch: min(decay, 1 - (1 + s)^(-2/3)) at the s-th update, counted from 0."""
    return min(average.decay, 1 - step ** (-2 / 3))  # s + 1 = step; the first update copies the weights


class EMA:
    """A copy of a module that follows it as an exponential moving average."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)  # in evaluation mode: it is never trained
        # Listed once: to walk through the modules of a small network takes a tenth of its step.
        self.averages: list[torch.Tensor] = list(self.module.parameters())
        self.weights: list[torch.Tensor] = list(module.parameters())
        self.buffers = list(zip(self.module.buffers(), module.buffers(), strict=True))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """average = decay average + (1 - decay) weights; integer buffers, which count, are copied."""
        torch._foreach_lerp_(self.averages, self.weights, 1 - decay)
        for average, value in self.buffers:
            if average.is_floating_point():  # a batch norm's running statistics belong to averaged weights
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
