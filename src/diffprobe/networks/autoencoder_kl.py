"""The KL-regularised autoencoder of latent diffusion (Rombach et al., High-resolution image synthesis with latent
diffusion models, 2022, section 3.1 and appendix G): residual blocks, and attention at the lowest resolution.

Parameters are named, ordered and initialised as those of diffusers' AutoencoderKL, whose checkpoints fit, and outputs
and gradients are the same. diffusers takes seconds to load, for which every job that sees latents would wait.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of the group norms


class AutoencoderKL(nn.Module):
    """`encoder` and `quant_conv` map an image (B, C, H, W) to its moments (B, 2c, h, w), `post_quant_conv` and
    `decoder` a latent (B, c, h, w) to an image. Each of the `widths` but the first halves the resolution.
    """

    def __init__(
        self,
        channels: int = 3,  # of images
        latent_channels: int = 4,
        widths: Sequence[int] = (128, 256, 512, 512),  # of each level, from full resolution down
        blocks: int = 2,  # residual blocks per level; the decoder has one more
        groups: int = 32,  # of the group norms; must divide every width
        attention: bool = True,  # at the lowest resolution
    ) -> None:
        super().__init__()
        moments = 2 * latent_channels  # mean and log-variance of each
        self.encoder = Encoder(channels, moments, widths, blocks, groups, attention)
        self.decoder = Decoder(channels, latent_channels, widths, blocks + 1, groups, attention)
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)


class Encoder(nn.Module):
    """Images (B, C, H, W) to (B, moments, h, w)."""

    def __init__(
        self, channels: int, moments: int, widths: Sequence[int], blocks: int, groups: int, attention: bool
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        befores = (widths[0], *widths)
        self.down_blocks = nn.ModuleList(
            Level(befores[i], width, blocks, groups, "downsamplers" if i + 1 < len(widths) else "")
            for i, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups, attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], moments, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)  # (B, widths[0], H, W)
        for level in self.down_blocks:
            x = level(x)  # (B, width, H', W')
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents (B, c, h, w) to images (B, C, H, W)."""

    def __init__(
        self, channels: int, latent_channels: int, widths: Sequence[int], blocks: int, groups: int, attention: bool
    ) -> None:
        super().__init__()
        falling = list(reversed(widths))
        befores = (falling[0], *falling)
        self.conv_in = nn.Conv2d(latent_channels, falling[0], 3, padding=1)
        self.up_blocks = nn.ModuleList()  # comes first among the parameters, but is drawn after the middle
        self.mid_block = Middle(falling[0], groups, attention)
        for i, width in enumerate(falling):
            resampler = "upsamplers" if i + 1 < len(falling) else ""
            self.up_blocks.append(Level(befores[i], width, blocks, groups, resampler))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=EPSILON)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))  # (B, falling[0], h, w)
        for level in self.up_blocks:
            x = level(x)  # (B, width, H', W')
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Level(nn.Module):
    """Residual blocks of one width, and a change of resolution by `downsamplers`, `upsamplers`, or none."""

    def __init__(self, before: int, width: int, blocks: int, groups: int, resampler: str) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(before if i == 0 else width, width, groups) for i in range(blocks))
        self.resampler = resampler
        if resampler:
            kind = Halved if resampler == "downsamplers" else Doubled
            self.add_module(resampler, nn.ModuleList([kind(width)]))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        return getattr(self, self.resampler)[0](x) if self.resampler else x


class Residual(nn.Module):
    """Norm, SiLU and convolution, twice; the shortcut is a 1 x 1 convolution where the width changes."""

    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=EPSILON)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=EPSILON)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        if before != width:
            self.conv_shortcut = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, width, H, W)
        h = self.conv2(F.silu(self.norm2(h)))
        if not hasattr(self, "conv_shortcut"):
            return x + h
        # Attention leaves channels last, with which a convolution rounds differently; in training diffusers undoes it.
        return self.conv_shortcut(x.contiguous() if self.training else x) + h


class Halved(nn.Module):
    """Half the resolution, by a convolution that is padded below and to the right alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Doubled(nn.Module):
    """Twice the resolution: each pixel repeated, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """Two residual blocks, with attention between them if wanted."""

    def __init__(self, width: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList()
        first = Residual(width, width, groups)
        if attention:
            self.attentions.append(Attention(width, groups))
        self.resnets = nn.ModuleList([first, Residual(width, width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Attention(nn.Module):
    """Self-attention of one head over all positions, on a residual branch."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=EPSILON)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x.flatten(2)).transpose(1, 2)  # (B, HW, C)
        q, k, v = (to(h)[:, None] for to in (self.to_q, self.to_k, self.to_v))  # (B, 1, HW, C)
        h = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])  # (B, HW, C)
        return h.transpose(1, 2).reshape(x.shape) + x
