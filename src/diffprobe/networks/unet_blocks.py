"""The layers of the U-Net: residual blocks with an additive noise embedding, self-attention, resampling.

All activations keep the memory format of their input (`devices.memory_format`): norms, convolutions, dropout and
resampling preserve it. Channels last, attention reads the same memory as tokens (B, HW, C). A `.contiguous()` or an
NCHW view in a block would undo it for the rest of the pass.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.networks.dropout import Dropout
from diffprobe.networks.linear import Linear
from diffprobe.networks.upsampling import Double, convolved_double


def sinusoid(c_noise: Tensor, dim: int) -> Tensor:
    """(B,) to (B, dim): sines, then cosines, of dim/2 frequencies from 1 down to 1/10000 (Vaswani et al. 2017, 3.5)."""
    half = dim // 2
    # DDPM divides by half - 1 where the paper has half, so that the last frequency is exactly 1/10000.
    frequencies = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half, device=c_noise.device))  # (dim/2,)
    angles = c_noise[:, None] * frequencies  # (B, dim/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, dim)


class RightPadded(nn.Conv2d):
    """A convolution of stride 2 padded on the right and below only, as in DDPM's code (TensorFlow's `SAME`)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))  # (B, C, H/2, W/2)


class BlockOptions(NamedTuple):
    """What all blocks of a U-Net have in common."""

    emb: int  # width of the noise embedding
    groups: int  # of every group norm
    eps: float  # of every group norm
    dropout: float
    skip_scale: float  # factor on every residual sum; EDM's sqrt(1/2) keeps the variance of two equal summands

    def norm(self, width: int) -> nn.GroupNorm:
        return nn.GroupNorm(self.groups, width, eps=self.eps)

    def scaled(self, total: Tensor) -> Tensor:
        """A residual sum, scaled in place."""
        return total if self.skip_scale == 1 else total.mul_(self.skip_scale)  # at 1 a factor costs a pass for nothing


def silu(h: Tensor) -> Tensor:
    """SiLU, without gradients in place of h, which nothing else must need."""
    return F.silu(h, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """norm, SiLU, [resample], conv, + noise embedding, norm, SiLU, dropout, conv; added to a shortcut.

    Sums are in place: a convolution keeps its input for the backward pass and not its output.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        options: BlockOptions,
        resample: nn.Module | None = None,
        shortcut_conv: bool = False,  # a 1x1 convolution in the shortcut though the width stays
    ) -> None:
        super().__init__()
        self.options = options
        self.norm1 = options.norm(width_in)
        self.resample = resample or nn.Identity()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.emb = nn.Linear(options.emb, width_out)
        self.norm2 = options.norm(width_out)
        self.dropout = Dropout(options.dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        projected = shortcut_conv or width_in != width_out
        self.shortcut = nn.Conv2d(width_in, width_out, 1) if projected else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.resampled(silu(self.norm1(x)))  # (B, width_out, H', W')
        h = self.conv2(self.dropout(silu(self.conditioned(h, emb))))  # (B, width_out, H', W')
        return self.options.scaled(h.add_(self.shortcut(self.resample(x))))

    def resampled(self, h: Tensor) -> Tensor:
        """The first convolution of h (B, width_in, H, W), resampled: (B, width_out, H', W')."""
        if isinstance(self.resample, Double):
            return convolved_double(h, self.conv1)
        return self.conv1(self.resample(h))

    def conditioned(self, h: Tensor, emb: Tensor) -> Tensor:
        """The second norm of h (B, width_out, H, W), which the embedding (B, emb) shifts alike at every position.

        h may be overwritten.
        """
        return self.norm2(h.add_(self.emb(F.silu(emb))[:, :, None, None]))


class SpatialAttention(nn.Module):
    """Self-attention over positions, one head of the full width, residual."""

    def __init__(self, width: int, options: BlockOptions) -> None:
        super().__init__()
        self.options = options
        self.norm = options.norm(width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).mT  # (B, HW, C): channels last, so no copy
        q, k, v = self.qkv(tokens)[:, None].chunk(3, dim=-1)  # (B, 1, HW, C): without a head axis no fused kernel
        # softmax(q k^T / sqrt(C)) v
        mixed = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])  # (B, HW, C)
        return self.options.scaled(x + mixed.mT.unflatten(2, x.shape[2:]))  # (B, C, H, W)


class UNetBlock(nn.Module):
    """A residual block and, at the levels that have it, attention. Taps are named after these."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        options: BlockOptions,
        attention: bool,
        residual: Callable[..., ResBlock] = ResBlock,
    ) -> None:
        super().__init__()
        self.res = residual(width_in, width_out, options)
        self.attention = SpatialAttention(width_out, options) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))  # (B, width_out, H, W)
