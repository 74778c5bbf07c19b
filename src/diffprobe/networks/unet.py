"""The U-Net of DDPM (Ho et al. 2020) in the form that DDAE trains (Xiang et al. 2023): plain skips, additive noise
embedding, one attention head, PyTorch's initialisation. Options give what DDPM and EDM (Karras et al. 2022) have.

With 128 channels, multipliers (1, 2, 2, 2), 2 blocks and attention at level 1 it has 35,746,307 parameters; with
(2, 2, 2), 4 blocks and resampling blocks, "DDPM++" (Song et al. 2021), it has 56,524,291, and 1,152 more where it is
told of EDM's augmentation.

All maps keep one memory format, channels last: norms, convolutions and resampling do, and attention reads the same
memory as tokens (B, HW, C). A `.contiguous()` or NCHW view in a block would undo it for all that follows.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.names import unet_taps
from diffprobe.networks.condition import NOTHING, Condition


def sinusoid(c_noise: Tensor, dim: int) -> Tensor:
    """(B,) to (B, dim): sines, then cosines, of dim/2 frequencies from 1 down to 1/10000 (Vaswani et al. 2017, 3.5)."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half, device=c_noise.device))
    angles = c_noise[:, None] * frequencies  # (B, dim/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, followed by `after`."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.interpolate(x, scale_factor=2, mode="nearest"))  # (B, C, 2H, 2W)


class RightPadded(nn.Conv2d):
    """A convolution of stride 2 that pads on the right and below only, as DDPM's does (TensorFlow's `SAME`)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Parts(NamedTuple):
    """What all blocks of a U-Net have in common."""

    emb: int  # width of the noise embedding
    groups: int
    eps: float
    dropout: float
    skip_scale: float

    def norm(self, width: int) -> nn.GroupNorm:
        return nn.GroupNorm(self.groups, width, eps=self.eps)


class ResBlock(nn.Module):
    """norm, SiLU, [resample], conv, + noise embedding, norm, SiLU, dropout, conv; added to a shortcut."""

    def __init__(self, width_in: int, width_out: int, parts: Parts, resample: nn.Module | None = None) -> None:
        super().__init__()
        self.skip_scale = parts.skip_scale
        self.norm1 = parts.norm(width_in)
        self.resample = resample or nn.Identity()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.emb = nn.Linear(parts.emb, width_out)
        self.norm2 = parts.norm(width_out)
        self.dropout = nn.Dropout(parts.dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(self.resample(F.silu(self.norm1(x))))  # (B, C, H, W)
        h = h + self.emb(F.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return scaled(h + self.shortcut(self.resample(x)), self.skip_scale)


def scaled(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else x * scale


class Attention(nn.Module):
    """Self-attention over positions, one head of the full width, residual."""

    def __init__(self, width: int, parts: Parts) -> None:
        super().__init__()
        self.skip_scale = parts.skip_scale
        self.norm = parts.norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).mT  # (B, HW, C)
        q, k, v = self.qkv(tokens)[:, None].chunk(3, dim=-1)  # (B, 1, HW, C): one head, else no fused kernel
        mixed = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])  # (B, HW, C)
        return scaled(x + mixed.mT.unflatten(2, x.shape[2:]), self.skip_scale)


class Block(nn.Module):
    """A residual block and, where its level has it, attention: the unit that taps name."""

    def __init__(self, width_in: int, width_out: int, parts: Parts, attention: bool) -> None:
        super().__init__()
        self.res = ResBlock(width_in, width_out, parts)
        self.attention = Attention(width_out, parts) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))


class UNet(nn.Module):
    """`forward(x, c_noise, cond)`: x (B, image_channels, H, W), H and W divisible by 2^(levels-1); c_noise (B,).

    `classes` is the number of labels where the network is told them, else 0; `augment` the length of what it is told of
    an image's augmentation, else 0: linear embeddings, which zeros leave out (EDM, appendix F.2).

    `time_scale` multiplies c_noise before its sinusoids; `skip_scale` multiplies every residual sum; `init` is
    PyTorch's, DDPM's or EDM's; `down_padding` of the downsampling convolutions is on both sides or, as in DDPM, on the
    `right` (and below).

    Taps: in_1.. (encoder blocks), mid, out_1.. (decoder blocks), each (B, C, H', W') after attention.
    """

    def __init__(
        self,
        image_channels: int,
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        groups: int = 32,
        head_groups: int = 8,
        resample: str = "conv",
        down_padding: str = "both",
        norm_eps: float = 1e-5,
        skip_scale: float = 1.0,
        time_scale: float = 1.0,
        init: str = "torch",
        classes: int = 0,
        augment: int = 0,
    ) -> None:
        super().__init__()
        widths = [channels * m for m in multipliers]
        parts = Parts(4 * channels, groups, norm_eps, dropout, skip_scale)
        self.channels, self.blocks, self.time_scale, self.classes = channels, blocks, time_scale, classes
        self.taps = unet_taps(len(widths), blocks)
        self.embed = nn.Sequential(nn.Linear(channels, parts.emb), nn.SiLU(), nn.Linear(parts.emb, parts.emb))
        self.label = nn.Linear(classes, channels, bias=False) if classes else None
        self.augment = nn.Linear(augment, channels, bias=False) if augment else None
        self.stem = nn.Conv2d(image_channels, channels, 3, padding=1)

        def block(width_in: int, width_out: int, level: int) -> Block:
            return Block(width_in, width_out, parts, level in attention)

        def down(width: int) -> nn.Module:
            if resample == "block":
                return ResBlock(width, width, parts, nn.AvgPool2d(2))
            if down_padding == "right":
                return RightPadded(width, width, 3, stride=2)
            return nn.Conv2d(width, width, 3, stride=2, padding=1)

        def up(width: int) -> nn.Module:
            if resample == "block":
                return ResBlock(width, width, parts, Upsample(nn.Identity()))
            return Upsample(nn.Conv2d(width, width, 3, padding=1))

        width, skips = channels, [channels]
        self.encoder, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, width_out in enumerate(widths):
            for _ in range(blocks):
                self.encoder.append(block(width, width_out, level))
                width = width_out
                skips.append(width)
            if level < len(widths) - 1:
                self.downs.append(down(width))
                skips.append(width)
        self.mid1 = Block(width, width, parts, attention=True)
        self.mid2 = Block(width, width, parts, attention=False)
        self.decoder, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width_out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.decoder.append(block(width + skips.pop(), width_out, level))
                width = width_out
            if level > 0:
                self.ups.append(up(width))
        norm = nn.GroupNorm(head_groups, width, eps=norm_eps)
        self.head = nn.Sequential(norm, nn.SiLU(), nn.Conv2d(width, image_channels, 3, padding=1))
        if init != "torch":
            initialise(self, init)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The output (B, image_channels, H, W) and the tapped activations by name.

        With `features_only` nothing after the last tap is computed and the output is None.
        """
        found: dict[str, Tensor] = {}
        h = x
        for name, h in self.activations(x, self.embedding(c_noise, cond)):
            if name in taps:
                found[name] = h
                if features_only and len(found) == len(taps):
                    return None, found
        return self.head(h), found

    def embedding(self, c_noise: Tensor, cond: Condition) -> Tensor:
        """What every block is told, (B, 4 channels): the noise level and, where known, label and augmentation."""
        told = sinusoid(self.time_scale * c_noise, self.channels)  # (B, channels)
        if self.label is not None and cond.label is not None:
            known = torch.arange(self.classes, device=cond.label.device)
            told = told + self.label((cond.label[:, None] == known).to(told.dtype))  # -1, no label, adds nothing
        if self.augment is not None and cond.augment is not None:
            told = told + self.augment(cond.augment)
        return self.embed(told)

    def activations(self, x: Tensor, emb: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each block's name and output, in the order of computation; emb (B, 4 channels)."""
        names = iter(self.taps)
        h = self.stem(x)
        skips = [h]
        for i, block in enumerate(self.encoder, start=1):
            h = block(h, emb)
            skips.append(h)
            yield next(names), h
            if i % self.blocks == 0 and i < len(self.encoder):
                h = resampled(self.downs[i // self.blocks - 1], h, emb)
                skips.append(h)
        h = self.mid2(self.mid1(h, emb), emb)
        yield next(names), h
        for i, block in enumerate(self.decoder, start=1):
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
            yield next(names), h
            if i % (self.blocks + 1) == 0 and i < len(self.decoder):
                h = resampled(self.ups[i // (self.blocks + 1) - 1], h, emb)


def resampled(module: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    """Apply a resampler, which may be a plain layer or a residual block."""
    return module(h, emb) if isinstance(module, ResBlock) else module(h)


@torch.no_grad()
def initialise(network: UNet, init: str) -> None:
    """Xavier's uniform weights (Glorot & Bengio 2010), zero biases; nearly zero where a branch or the output joins.

    `ddpm`: those are zero, q, k and v are layers of their own (Ho et al. 2020, their code). `edm`: they are scaled by
    1e-5, the weights of q, k and v by sqrt(0.2) (Karras et al. 2022, their code).
    """
    joins = [network.head[2]]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        joins += [module.conv2] if isinstance(module, ResBlock) else []
        joins += [module.out] if isinstance(module, Attention) else []
    for module in network.modules():
        if isinstance(module, Attention) and init == "edm":
            module.qkv.weight.mul_(math.sqrt(0.2))
        elif isinstance(module, Attention):
            for part in module.qkv.weight.chunk(3):
                nn.init.xavier_uniform_(part)
    for module in joins:
        module.weight.mul_(1e-5 if init == "edm" else 0)
