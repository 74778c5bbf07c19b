"""Moving averages of the weights, and how fast they forget."""

import copy
from typing import Any

import torch
from torch import nn


def decay(average: dict[str, Any], step: int, batch: int) -> float:
    """The decay of an average (its config subtree) for the update after step `step`, counted from 1.

    `half_life`: `kimg` thousand images, and at most `ramp` times the images seen, so that a young average is not held
    back by the initial weights (Karras et al. 2022, appendix F.2).
    `ddae`: min(decay, 1 - (1 + s)^(-2/3)) at the s-th update from 0 on, the first of which copies the weights.
    """
    if average["kind"] == "ddae":
        return min(average["decay"], 1 - step ** (-2 / 3))
    half_life = min(1000 * average["kimg"], average["ramp"] * step * batch)
    return 0.5 ** (batch / max(half_life, 1e-8))


class EMA:
    """A copy of a module that follows it; buffers are copied, parameters averaged."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
