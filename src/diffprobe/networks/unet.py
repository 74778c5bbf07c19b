"""The U-Net of DDPM (Ho et al. 2020) in the form that DDAE trains (Xiang et al. 2023): plain skips, additive noise
embedding, one attention head, PyTorch's initialisation.

With 128 channels, multipliers (1, 2, 2, 2), 2 blocks and attention at level 1 it has 35,746,307 parameters; with
(2, 2, 2), 4 blocks and resampling blocks, "DDPM++" (Song et al. 2021), it has 56,524,291.
"""

import math
from collections.abc import Iterator, Sequence

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


class ResBlock(nn.Module):
    """norm, SiLU, [resample], conv, + noise embedding, norm, SiLU, dropout, conv; added to a shortcut."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        emb: int,
        groups: int,
        dropout: float,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in)
        self.resample = resample or nn.Identity()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.emb = nn.Linear(emb, width_out)
        self.norm2 = nn.GroupNorm(groups, width_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(self.resample(F.silu(self.norm1(x))))  # (B, C, H, W)
        h = h + self.emb(F.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + self.shortcut(self.resample(x))


class Attention(nn.Module):
    """Self-attention over positions, one head of the full width, residual."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).mT  # (B, HW, C)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v))  # (B, HW, C)
        return x + mixed.mT.reshape(x.shape)


class Block(nn.Module):
    """A residual block and, where its level has it, attention: the unit that taps name."""

    def __init__(self, width_in: int, width_out: int, emb: int, groups: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.res = ResBlock(width_in, width_out, emb, groups, dropout)
        self.attention = Attention(width_out, groups) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))


class UNet(nn.Module):
    """`forward(x, c_noise)`: x (B, image_channels, H, W), H and W divisible by 2^(levels-1); c_noise (B,).

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
    ) -> None:
        super().__init__()
        widths = [channels * m for m in multipliers]
        emb = 4 * channels
        self.channels, self.blocks = channels, blocks
        self.taps = unet_taps(len(widths), blocks)
        self.embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.stem = nn.Conv2d(image_channels, channels, 3, padding=1)

        def block(width_in: int, width_out: int, level: int) -> Block:
            return Block(width_in, width_out, emb, groups, dropout, level in attention)

        def down(width: int) -> nn.Module:
            if resample == "conv":
                return nn.Conv2d(width, width, 3, stride=2, padding=1)
            return ResBlock(width, width, emb, groups, dropout, nn.AvgPool2d(2))

        def up(width: int) -> nn.Module:
            if resample == "conv":
                return Upsample(nn.Conv2d(width, width, 3, padding=1))
            return ResBlock(width, width, emb, groups, dropout, Upsample(nn.Identity()))

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
        self.mid1 = Block(width, width, emb, groups, dropout, attention=True)
        self.mid2 = Block(width, width, emb, groups, dropout, attention=False)
        self.decoder, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width_out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.decoder.append(block(width + skips.pop(), width_out, level))
                width = width_out
            if level > 0:
                self.ups.append(up(width))
        self.head = nn.Sequential(
            nn.GroupNorm(head_groups, width), nn.SiLU(), nn.Conv2d(width, image_channels, 3, padding=1)
        )

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
        for name, h in self.activations(x, c_noise):
            if name in taps:
                found[name] = h
                if features_only and len(found) == len(taps):
                    return None, found
        return self.head(h), found

    def activations(self, x: Tensor, c_noise: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each block's name and output, in the order of computation."""
        names = iter(self.taps)
        emb = self.embed(sinusoid(c_noise, self.channels))  # (B, 4C)
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
