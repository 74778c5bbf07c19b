"""The convolutional autoencoder of the CelebA-HQ recipe: AutoencoderKL's outline (Rombach et al. 2022) without a middle
and without attention, with a convolution in every shortcut.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class ConvAutoencoder(nn.Module):
    """`encoder` and `quant_conv` map an image to its moments, `post_quant_conv` and `decoder` a latent to an image.

    Each of the `widths` but the first halves the resolution: 128 x 128 pixels become 32 x 32 latents with three. The
    parts are named as in AutoencoderKL, so that a Codec takes either. Images are in [-1, 1]; the output is unbounded.
    """

    def __init__(
        self,
        channels: int = 3,  # of images
        latent_channels: int = 4,
        widths: Sequence[int] = (128, 256, 384),  # of each level, from full resolution down
        blocks: int = 2,  # residual units per level
        groups: int = 32,  # of the group norms; must divide every width
    ) -> None:
        super().__init__()
        moments = 2 * latent_channels  # mean and log-variance of each
        self.encoder = encoder(channels, moments, widths, blocks, groups)
        self.quant_conv = nn.Conv2d(moments, moments, 1)  # (B, 2c, h, w)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)  # (B, c, h, w)
        self.decoder = decoder(channels, latent_channels, widths, blocks, groups)


def encoder(channels: int, moments: int, widths: Sequence[int], blocks: int, groups: int) -> nn.Sequential:
    """Images (B, C, H, W) to (B, moments, h, w)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]  # (B, widths[0], H, W)
    for before, width in pairwise(widths):
        layers += units(before, width, blocks, groups)
        layers.append(nn.Conv2d(width, width, 4, stride=2, padding=1))  # (B, width, H/2, W/2)
    return nn.Sequential(*layers, *normed(widths[-1], moments, groups))  # (B, moments, h, w)


def decoder(channels: int, latent_channels: int, widths: Sequence[int], blocks: int, groups: int) -> nn.Sequential:
    """Latents (B, c, h, w) to images (B, C, H, W)."""
    falling = list(reversed(widths))
    layers: list[nn.Module] = [nn.Conv2d(latent_channels, falling[0], 3, padding=1)]  # (B, falling[0], h, w)
    for before, width in pairwise(falling):
        # Kernel 4 at stride 2 covers every pixel equally often, which avoids checkerboards (Odena et al. 2016).
        layers.append(nn.ConvTranspose2d(before, before, 4, stride=2, padding=1))  # (B, before, 2h, 2w)
        layers += units(before, width, blocks, groups)
    return nn.Sequential(*layers, *normed(widths[0], channels, groups))  # (B, C, H, W)


def units(before: int, width: int, blocks: int, groups: int) -> list[nn.Module]:
    """The residual units of a level; the first one changes the width."""
    return [Unit(before if i == 0 else width, width, groups) for i in range(blocks)]


def normed(before: int, width: int, groups: int) -> list[nn.Module]:
    """Group norm (Wu & He 2018), SiLU, and a 3 x 3 convolution."""
    return [nn.GroupNorm(groups, before), nn.SiLU(), nn.Conv2d(before, width, 3, padding=1)]


class Unit(nn.Module):
    """A residual unit of two convolutions; its shortcut is a 1 x 1 convolution even where the width does not change."""

    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*normed(before, width, groups), *normed(width, width, groups))
        self.shortcut = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)  # (B, width, H, W)
