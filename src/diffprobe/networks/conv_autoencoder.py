"""The convolutional autoencoder of the CelebA-HQ recipe: AutoencoderKL's outline (Rombach et al. 2022) without a middle
and without attention, with a convolution in every shortcut.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class ConvAutoencoder(nn.Module):
    """`encoder` and `quant_conv` make an image's moments, `post_quant_conv` and `decoder` an image of a latent.

    Each of the `widths` but the first halves the resolution: 128 x 128 pixels are 32 x 32 of latents with three. The
    parts are named as in AutoencoderKL, so that a Codec takes either. Images are in [-1, 1]; nothing bounds what comes
    back.
    """

    def __init__(
        self,
        channels: int = 3,
        latent_channels: int = 4,
        widths: Sequence[int] = (128, 256, 384),
        blocks: int = 2,
        groups: int = 32,
    ) -> None:
        super().__init__()
        moments = 2 * latent_channels
        self.encoder = encoder(channels, moments, widths, blocks, groups)
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = decoder(channels, latent_channels, widths, blocks, groups)


def encoder(channels: int, moments: int, widths: Sequence[int], blocks: int, groups: int) -> nn.Sequential:
    """Images (B, C, H, W) to (B, moments, h, w)."""
    parts: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]
    for before, width in pairwise(widths):
        parts += units(before, width, blocks, groups)
        parts.append(nn.Conv2d(width, width, 4, stride=2, padding=1))
    return nn.Sequential(*parts, *normed(widths[-1], moments, groups))


def decoder(channels: int, latent_channels: int, widths: Sequence[int], blocks: int, groups: int) -> nn.Sequential:
    """Latents (B, c, h, w) to images (B, C, H, W); each level is enlarged before its units."""
    falling = list(reversed(widths))
    parts: list[nn.Module] = [nn.Conv2d(latent_channels, falling[0], 3, padding=1)]
    for before, width in pairwise(falling):
        parts.append(nn.ConvTranspose2d(before, before, 4, stride=2, padding=1))
        parts += units(before, width, blocks, groups)
    return nn.Sequential(*parts, *normed(widths[0], channels, groups))


def units(before: int, width: int, blocks: int, groups: int) -> list[nn.Module]:
    """The residual units of a level."""
    return [Unit(before if i == 0 else width, width, groups) for i in range(blocks)]


def normed(before: int, width: int, groups: int) -> list[nn.Module]:
    """Group norm (Wu & He 2018), SiLU, and a convolution of 3 x 3."""
    return [nn.GroupNorm(groups, before), nn.SiLU(), nn.Conv2d(before, width, 3, padding=1)]


class Unit(nn.Module):
    """A residual unit of two convolutions; its shortcut is one of 1 x 1 even where the width stays."""

    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*normed(before, width, groups), *normed(width, width, groups))
        self.shortcut = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)  # (B, width, H, W)
