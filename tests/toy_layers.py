"""Layers that are computed in two ways, compared."""

import torch
from torch import Tensor, nn


def results(layer: nn.Module, x: Tensor, *more: Tensor) -> list[Tensor]:
    """The output and all gradients."""
    given = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(given, *more)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    return [y.detach(), given.grad, *(parameter.grad.clone() for parameter in layer.parameters())]


def assert_alike(ours: list[Tensor], torchs: list[Tensor]) -> None:
    """Equal up to rounding, in the norm."""
    for one, other in zip(ours, torchs, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5
