"""A discriminator of patches (PatchGAN; Isola et al., Image-to-image translation with conditional adversarial networks,
2017, appendix 6.1.2).
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

NORM_GROUPS = 32  # at most, in a group norm


class Discriminator(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] to a logit for each patch, (B, 1, h, w): 15 x 15 for 128 x 128 pixels.

    Each of the `widths` halves the resolution; H and W are at least 2^(1 + number of widths). `norm` is `batch`, as
    published, with which an image's logits depend on its batch, or `group`.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = (64, 128, 256), norm: str = "batch") -> None:
        super().__init__()
        before, *others = widths
        # The first layer has no norm, as published.
        layers: list[nn.Module] = [nn.Conv2d(channels, before, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for width in others:
            # No bias: the norm's own takes its place.
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1, bias=False))  # (B, width, H/2, W/2)
            layers += [normalisation(norm, width), nn.LeakyReLU(0.2)]
            before = width
        # Each logit sees a patch of the image, 46 x 46 pixels with three widths.
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (B, 1, h, w)


def normalisation(norm: str, width: int) -> nn.Module:
    """Over the batch (Ioffe & Szegedy 2015), or over groups of an image's channels (Wu & He 2018)."""
    if norm == "batch":
        return nn.BatchNorm2d(width)
    return nn.GroupNorm(math.gcd(NORM_GROUPS, width), width)  # as many groups as divide the width
