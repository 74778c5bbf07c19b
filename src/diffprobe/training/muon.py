"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal."""

from typing import Any

import torch
from torch import Tensor, optim

QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the iteration, chosen for a steep slope at 0
STEPS = 5
RMS = 0.2  # of an update's entries, as AdamW's have, so that both take one learning rate (Liu et al. 2025, eq. 4)
EPS = 1e-7


class Muon(optim.Optimizer):
    """Muon for parameters of two or more dimensions, AdamW for all others, at one learning rate.

    A convolution's weight (out, in, h, w) is the matrix (out, in h w). `bf16`: orthogonal matrices are computed in
    bfloat16, as published, which is slow on a CPU without units for it.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], momentum: float, bf16: bool
    ) -> None:
        self.dtype, self.momentum = torch.bfloat16 if bf16 else torch.float32, momentum
        self.matrices = [{**group, "params": [p for p in group["params"] if p.ndim >= 2]} for group in groups]
        others = [{**group, "params": [p for p in group["params"] if p.ndim < 2]} for group in groups]
        self.adam = optim.AdamW(others, lr, betas, fused=True)
        super().__init__([*self.matrices, *self.adam.param_groups], {"lr": lr})
        # The groups are the same objects, so rates set here are AdamW's too; with one state, whoever keeps it sees all.
        self.adam.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # closures are for line searches
        """Update all parameters by their gradients; those without one stay as they are."""
        self.adam.step()
        for group in self.matrices:
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for parameters in alike.values():
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                self.update(parameters, gradients, group["lr"], group["weight_decay"])

    def update(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, weight_decay: float) -> None:
        """Update parameters of one shape, whose matrices are made orthogonal together: one by one they are too small to
        keep a device busy.
        """
        averages = [self.average(parameter) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, averages, self.momentum)  # Nesterov's
        matrices = orthogonal(torch.stack([each.flatten(1).to(self.dtype) for each in ahead]))  # (K, out, in h w)
        updates = [matrix.reshape(parameters[0].shape).float() for matrix in matrices]
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, updates, alpha=-lr * RMS * max(matrices.shape[1:]) ** 0.5)

    def average(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (K, m, n) with the singular vectors of those given and singular values of about 1, from 0.7 to 1.2,
    unless they were near 0.

    Five steps of the iteration X <- a X + (b A + c A^2) X with A = X X', which needs products alone.
    """
    a, b, c = QUINTIC
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT  # A is of the smaller side
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)  # no singular value above 1
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
