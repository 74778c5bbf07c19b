"""Published initial weights of U-Nets, other than PyTorch's own."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffprobe.networks.unet_blocks import ResBlock, SpatialAttention

if TYPE_CHECKING:
    from diffprobe.networks.unet import UNet


@torch.no_grad()
def ddpm(network: "UNet") -> None:
    """Xavier's; zero where a branch or the output joins; q, k, v drawn one by one (Ho et al. 2020, their code)."""
    draw(network, nn.init.xavier_uniform_)
    for module in attentions(network):
        # Xavier's bound depends on the output width, which is three times too large for the stacked matrix.
        for matrix in module.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(matrix)
    scale_joins(network, 0)


@torch.no_grad()
def edm(network: "UNet") -> None:
    """Xavier's; times 1e-5 where a branch or the output joins, sqrt(0.2) for q, k, v (Karras et al. 2022, code)."""
    draw(network, nn.init.xavier_uniform_)
    for module in attentions(network):
        module.qkv.weight.mul_(math.sqrt(0.2))
    scale_joins(network, 1e-5)


@torch.no_grad()
def truncated_normal(network: "UNet") -> None:
    """Normal weights of variance 1 / fan-in, drawn within two standard deviations and scaled up to it.

    SODA (Hudson et al. 2024) is said to draw from this distribution; the variance is ours (LeCun et al. 1998).
    """
    draw(network, lecun_)


INITS: dict[str, Callable[["UNet"], None]] = {"ddpm": ddpm, "edm": edm, "truncated_normal": truncated_normal}


def draw(network: nn.Module, fill: Callable[[Tensor], object]) -> None:
    """Fill the weights of all convolutions and linear layers; zero their biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fill(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def lecun_(weight: Tensor) -> None:
    """weight (out, in, ...), in place."""
    deviation = weight[0].numel() ** -0.5
    cut = 0.87962566  # the standard deviation of a unit normal cut at 2
    nn.init.trunc_normal_(weight, std=deviation / cut, a=-2 * deviation / cut, b=2 * deviation / cut)


def attentions(network: nn.Module) -> Iterator[SpatialAttention]:
    return (module for module in network.modules() if isinstance(module, SpatialAttention))


def scale_joins(network: "UNet", factor: float) -> None:
    """So that each residual block starts near the identity, and the network near predicting zero."""
    blocks = (module for module in network.modules() if isinstance(module, ResBlock))
    for module in (network.head[2], *(block.conv2 for block in blocks), *(a.out for a in attentions(network))):
        module.weight.mul_(factor)  # type: ignore[operator, union-attr]
