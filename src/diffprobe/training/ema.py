"""The exponential moving average of the weights."""

import copy

import torch
from torch import nn


def decay(images: int, batch: int, half_life: float, ramp: float) -> float:
    """The average's decay for one step that brings the count to `images` (Karras et al. 2022, appendix F.2).

    The half-life is given in images, and is at most `ramp` times the images seen, so that a young average is not
    held back by the initial weights.
    """
    return 0.5 ** (batch / max(min(half_life, images * ramp), 1e-8))


class EMA:
    """A copy of a module that follows it; buffers are copied, parameters averaged."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
