"""Optimisers of many heads at once: they work by element, LARS by head, so no head affects another."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from diffprobe.config.evaluators.trained import Trained

TRUST = 1e-3  # LARS' trust coefficient (You et al. 2017, eq. 6)

# Parameters are (N, H, rows, columns), `rates` (H, 1, 1): each of the H heads of a seed and cell has a rate of its own.


class Update(Protocol):
    """Moves one of the parameters that it was made for, in place."""

    state: list[Tensor]  # all that it remembers, to be saved and copied back

    def __call__(self, p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        """By the gradient g, which may be overwritten, at `factor` times the rates."""


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1); L2 on the weights is added to the gradient."""

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor, settings: Trained) -> None:
        self.rates, self.weight_decay = rates, settings.weight_decay
        self.first = {id(p): torch.zeros_like(p) for p in parameters}
        self.second = {id(p): torch.zeros_like(p) for p in parameters}
        self.steps = {id(p): torch.zeros((), dtype=torch.int64) for p in parameters}
        self.state = [*self.first.values(), *self.second.values(), *self.steps.values()]

    def __call__(self, p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        key = id(p)
        steps = int(self.steps[key].add_(1))
        g = g.add_(p, alpha=self.weight_decay) if is_weight else g  # as torch.optim.Adam, unlike AdamW
        m = self.first[key].lerp_(g, 0.1)  # beta1 = 0.9
        v = self.second[key].mul_(0.999).addcmul_(g, g, value=0.001)  # beta2 = 0.999
        # Both averages start at zero; dividing by these undoes the bias towards it.
        correction1, correction2 = 1 - 0.9**steps, 1 - 0.999**steps
        p.sub_(m / ((v / correction2).sqrt_().add_(1e-8)) * (self.rates * (factor / correction1)))


class SGD:
    """Stochastic gradient descent with momentum; L2 on the weights is added to the gradient."""

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor, settings: Trained) -> None:
        self.rates, self.momentum, self.weight_decay = rates, settings.momentum, settings.weight_decay
        self.velocity = {id(p): torch.zeros_like(p) for p in parameters}
        self.state = list(self.velocity.values())

    def __call__(self, p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        g = g.add_(p, alpha=self.weight_decay) if is_weight else g
        self.move(p, g, factor)

    def move(self, p: Tensor, g: Tensor, factor: float) -> None:
        # As in PyTorch the rate multiplies the velocity, not what is added to it.
        p.sub_(self.velocity[id(p)].mul_(self.momentum).add_(g) * (self.rates * factor))


class LARS(SGD):
    """LARS (You et al. 2017, algorithm 1): the rate of a head's parameter is scaled by its norm over its gradient's.

    Biases are not scaled.
    """

    def __call__(self, p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        if is_weight:
            g = g.add_(p, alpha=self.weight_decay)  # inside the norms
            w_norm, g_norm = head_norms(p), head_norms(g)
            g = g * torch.where((w_norm > 0) & (g_norm > 0), TRUST * w_norm / g_norm, torch.ones_like(w_norm))
        self.move(p, g, factor)


def head_norms(x: Tensor) -> Tensor:
    """(N, H, rows, columns) to (N, H, 1, 1)."""
    return x.square().sum((2, 3), keepdim=True).sqrt()


OPTIMIZERS: dict[str, Callable[[Sequence[Tensor], Tensor, Trained], Update]] = {"adam": Adam, "sgd": SGD, "lars": LARS}
