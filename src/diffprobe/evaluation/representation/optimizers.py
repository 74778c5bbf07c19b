"""Optimisers of many heads at once: they work by element, LARS by head, so no head affects another."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffprobe.config.evaluators.trained import Trained

TRUST = 1e-3  # LARS' trust coefficient (You et al. 2017, eq. 6)
Update = Callable[[Tensor, Tensor, float, bool], None]  # parameter, gradient, factor on its rate, is it a weight

# Parameters are (N, H, rows, columns), `rates` (H, 1, 1): each of the H heads of a seed and cell has a rate of its own.


def adam(parameters: Sequence[Tensor], rates: Tensor, settings: Trained) -> Update:
    """Adam (Kingma and Ba 2015, algorithm 1); L2 on the weights is added to the gradient."""
    first = {id(p): torch.zeros_like(p) for p in parameters}
    second = {id(p): torch.zeros_like(p) for p in parameters}
    steps = {id(p): 0 for p in parameters}

    def update(p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        key = id(p)
        steps[key] += 1
        g = g.add_(p, alpha=settings.weight_decay) if is_weight else g  # as torch.optim.Adam, unlike AdamW
        m = first[key].lerp_(g, 0.1)  # beta1 = 0.9
        v = second[key].mul_(0.999).addcmul_(g, g, value=0.001)  # beta2 = 0.999
        # Both averages start at zero; dividing by these undoes the bias towards it.
        correction1, correction2 = 1 - 0.9 ** steps[key], 1 - 0.999 ** steps[key]
        p.sub_(m / ((v / correction2).sqrt_().add_(1e-8)) * (rates * (factor / correction1)))

    return update


def sgd(parameters: Sequence[Tensor], rates: Tensor, settings: Trained) -> Update:
    """Stochastic gradient descent with momentum; L2 on the weights is added to the gradient."""
    velocity = {id(p): torch.zeros_like(p) for p in parameters}

    def update(p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        g = g.add_(p, alpha=settings.weight_decay) if is_weight else g
        # As in PyTorch the rate multiplies the velocity, not what is added to it.
        p.sub_(velocity[id(p)].mul_(settings.momentum).add_(g) * (rates * factor))

    return update


def lars(parameters: Sequence[Tensor], rates: Tensor, settings: Trained) -> Update:
    """LARS (You et al. 2017, algorithm 1): the rate of a head's parameter is scaled by its norm over its gradient's.

    Biases are not scaled.
    """
    # Weight decay belongs inside the norms, so the SGD underneath must not add it again.
    plain = sgd(parameters, rates, settings.model_copy(update={"weight_decay": 0.0}))

    def head_norms(x: Tensor) -> Tensor:  # (N, H, rows, columns) to (N, H, 1, 1)
        return x.square().sum((2, 3), keepdim=True).sqrt()

    def update(p: Tensor, g: Tensor, factor: float, is_weight: bool) -> None:
        if is_weight:
            g = g.add_(p, alpha=settings.weight_decay)
            w_norm, g_norm = head_norms(p), head_norms(g)
            g = g * torch.where((w_norm > 0) & (g_norm > 0), TRUST * w_norm / g_norm, torch.ones_like(w_norm))
        plain(p, g, factor, is_weight)

    return update


OPTIMIZERS = {"adam": adam, "sgd": sgd, "lars": lars}
