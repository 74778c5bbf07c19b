"""The U-Net of DDPM (Ho et al. 2020) in the peers' manner: NCHW throughout, attention by two products and a softmax.

The same function as networks/unet.py, by modules of the same names.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid(t: Tensor, dim: int) -> Tensor:
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=t.device).float() * -(math.log(10000) / (half - 1)))
    angles = t[:, None].float() * frequencies[None, :]
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class ResBlock(nn.Module):
    def __init__(
        self, width_in: int, width_out: int, emb: int, groups: int, dropout: float, resample: str = ""
    ) -> None:
        super().__init__()
        self.change = resample
        self.norm1 = nn.GroupNorm(groups, width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.emb = nn.Linear(emb, width_out)
        self.norm2 = nn.GroupNorm(groups, width_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()
        self.act = nn.SiLU()

    def resampled(self, x: Tensor) -> Tensor:
        if self.change == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.change == "up" else x

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.act(self.norm1(x))
        h = self.conv1(self.resampled(h))
        h = h + self.emb(self.act(emb))[:, :, None, None]
        h = self.act(self.norm2(h))
        h = self.conv2(self.dropout(h))
        return self.shortcut(self.resampled(x)) + h


class Attention(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        h = self.norm(x).reshape(B, C, H * W).permute(0, 2, 1).contiguous()
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        scores = torch.einsum("bic,bjc->bij", q, k) * C**-0.5
        h = torch.einsum("bij,bjc->bic", torch.softmax(scores, dim=-1), v)
        return x + self.out(h).permute(0, 2, 1).reshape(B, C, H, W).contiguous()


class Block(nn.Module):
    def __init__(self, width_in: int, width_out: int, emb: int, groups: int, dropout: float, attends: bool) -> None:
        super().__init__()
        self.res = ResBlock(width_in, width_out, emb, groups, dropout)
        self.attention = Attention(width_out, groups) if attends else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))


class Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.after = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.interpolate(x, scale_factor=2, mode="nearest"))


class PlainUNet(nn.Module):
    """`forward(x, t, augment)`: x (B, image_channels, H, W), t (B,), augment (B, A) or None."""

    def __init__(
        self,
        image_channels: int,
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        dropout: float,
        groups: int,
        head_groups: int,
        resample: str,
        augment: int = 0,
    ) -> None:
        super().__init__()
        emb, widths = 4 * channels, [channels * m for m in multipliers]
        self.channels, self.blocks = channels, blocks
        self.embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.augment = nn.Linear(augment, channels, bias=False) if augment else None
        self.stem = nn.Conv2d(image_channels, channels, 3, padding=1)

        def down(width: int) -> nn.Module:
            if resample == "block":
                return ResBlock(width, width, emb, groups, dropout, "down")
            return nn.Conv2d(width, width, 3, stride=2, padding=1)

        def up(width: int) -> nn.Module:
            return ResBlock(width, width, emb, groups, dropout, "up") if resample == "block" else Upsample(width)

        width, skips = channels, [channels]
        self.encoder, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, out in enumerate(widths):
            for _ in range(blocks):
                self.encoder.append(Block(width, out, emb, groups, dropout, level in attention))
                width = out
                skips.append(width)
            if level < len(widths) - 1:
                self.downs.append(down(width))
                skips.append(width)
        self.mid1 = Block(width, width, emb, groups, dropout, True)
        self.mid2 = Block(width, width, emb, groups, dropout, False)
        self.decoder, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.decoder.append(Block(width + skips.pop(), out, emb, groups, dropout, level in attention))
                width = out
            if level > 0:
                self.ups.append(up(width))
        self.head = nn.Sequential(
            nn.GroupNorm(head_groups, width), nn.SiLU(), nn.Conv2d(width, image_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor, augment: Tensor | None = None) -> Tensor:
        emb = sinusoid(t, self.channels)
        if self.augment is not None and augment is not None:
            emb = emb + self.augment(augment)
        emb = self.embed(emb)
        h = self.stem(x)
        skips = [h]
        for i, block in enumerate(self.encoder, start=1):
            h = block(h, emb)
            skips.append(h)
            if i % self.blocks == 0 and i < len(self.encoder):
                h = self.changed(self.downs[i // self.blocks - 1], h, emb)
                skips.append(h)
        h = self.mid2(self.mid1(h, emb), emb)
        for i, block in enumerate(self.decoder, start=1):
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
            if i % (self.blocks + 1) == 0 and i < len(self.decoder):
                h = self.changed(self.ups[i // (self.blocks + 1) - 1], h, emb)
        return self.head(h)

    @staticmethod
    def changed(module: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
        return module(h, emb) if isinstance(module, ResBlock) else module(h)


OPTIONS = ("channels", "multipliers", "blocks", "attention", "dropout", "groups", "head_groups", "resample")


def plain_unet(network: dict, ours: nn.Module, augment: int = 0) -> PlainUNet:
    """Of a recipe's network (benchmarks.recipes), with the weights of ours; image channels 3."""
    module = PlainUNet(3, **{name: network[name] for name in OPTIONS}, augment=augment)
    module.load_state_dict({name: value.contiguous() for name, value in ours.state_dict().items()})
    return module
