"""A wide residual network that classifies noisy images (Zagoruyko & Komodakis, "Wide residual networks", 2016).

Its blocks norm before they convolve (He et al., "Identity mappings in deep residual networks", 2016) and see the noise
level between their convolutions, by an embedding of random Fourier features (Tancik et al. 2020, eq. 5).
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.names import WIDE_RESNET_TAPS
from diffprobe.networks.condition import NOTHING, Condition

STEM = 16  # channels of the first convolution, and of the first group at width 1


def norm(width: int) -> nn.GroupNorm:
    """Of at most 32 groups of at least 4 channels, as many as divide the width."""
    groups = max(n for n in range(1, min(width // 4, 32) + 1) if width % n == 0)
    return nn.GroupNorm(groups, width, eps=1e-5)


def conv(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)


def standardised(x: Tensor) -> Tensor:
    """Images (B, C, H, W), each with mean 0 and standard deviation 1 over all its numbers.

    The deviation counts as at least 1 / sqrt(C H W), so that an image of one colour stays finite.
    """
    std, mean = torch.std_mean(x.float(), dim=(1, 2, 3), correction=0, keepdim=True)
    return (x - mean) / std.clamp(min=1 / math.sqrt(x[0].numel()))


class FourierEmbedding(nn.Module):
    """Sines and cosines of the noise level at random frequencies, and two layers."""

    scales: Tensor  # (frequencies,), fixed

    def __init__(self, frequencies: int, std: float, width: int) -> None:
        super().__init__()
        self.register_buffer("scales", std * torch.randn(frequencies))
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c_noise: Tensor) -> Tensor:
        """(B,) to (B, width)."""
        angles = 2 * math.pi * c_noise[:, None] * self.scales  # (B, frequencies)
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Block(nn.Module):
    """norm, ReLU, 3x3 convolution, + noise embedding, norm, ReLU, 3x3 convolution; added to a shortcut.

    Where the shape changes the shortcut is averaged over `stride` x `stride` pixels and filled up with channels of
    zeros. `activates_both`: it is taken after the first norm and ReLU.
    """

    def __init__(self, width_in: int, width: int, stride: int, emb: int, activates_both: bool) -> None:
        super().__init__()
        self.stride, self.added, self.activates_both = stride, width - width_in, activates_both
        self.norm1, self.conv1 = norm(width_in), conv(width_in, width, stride)
        self.emb = nn.Linear(emb, width)
        self.norm2, self.conv2 = norm(width), conv(width, width)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, C, H, W) and the embedding of the noise level (B, E) to (B, width, H', W')."""
        h = F.relu(self.norm1(x))  # (B, C, H, W)
        shortcut = h if self.activates_both else x
        h = self.conv1(h) + self.emb(F.silu(emb))[:, :, None, None]  # (B, width, H', W')
        h = self.conv2(F.relu(self.norm2(h)))
        if self.stride > 1:
            shortcut = F.avg_pool2d(shortcut, self.stride)
        if self.added:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.added))
        return shortcut + h


class WideResNet(nn.Module):
    """Class logits of noisy images x (B, image_channels, H, W), H and W multiples of 4, of any scale: each is
    standardised first. c_noise (B,) is the process's input of the noise level.

    Taps: group_1 to group_3 (B, C, h, w), the last after a norm and ReLU; features (B, 64 width), its mean over
    positions; logits (B, classes).
    """

    classifies = True  # its output is no image

    def __init__(
        self,
        image_channels: int,
        classes: int,
        depth: int = 28,
        width: int = 10,
        embedding: int = 512,
        frequencies: int = 128,
        frequency_std: float = 16.0,
    ) -> None:
        super().__init__()
        self.taps = list(WIDE_RESNET_TAPS)
        self.embedding = FourierEmbedding(frequencies, frequency_std, embedding)
        self.stem = conv(image_channels, STEM)
        self.blocks = nn.ModuleList()
        self.per_group, width_in = (depth - 4) // 6, STEM
        for group, stride in enumerate((1, 2, 2)):
            out = STEM * width * 2**group
            for i in range(self.per_group):
                both = group == i == 0
                self.blocks.append(Block(width_in, out, 1 if i else stride, embedding, activates_both=both))
                width_in = out
        self.norm, self.head = norm(width_in), nn.Linear(width_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)  # (He et al. 2015, eq. 10)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Logits (B, classes) of noisy images x (B, C, H, W) at c_noise (B,), and the tapped activations by name; with
        `features_only` none after the last tap. `cond` is not seen.
        """
        activations: dict[str, Tensor] = {}
        h = x
        for name, h in self.activations(x, c_noise):
            if name in taps:
                activations[name] = h
                if features_only and len(activations) == len(taps):
                    return None, activations
        return h, activations  # logits (B, classes)

    def activations(self, x: Tensor, c_noise: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The taps in order of computation."""
        emb, h = self.embedding(c_noise), self.stem(standardised(x))
        for number, block in enumerate(self.blocks, start=1):
            h = block(h, emb)
            if number == len(self.blocks):
                h = F.relu(self.norm(h))
            if number % self.per_group == 0:
                yield f"group_{number // self.per_group}", h  # (B, C, h, w)
        h = h.mean(dim=(2, 3))
        yield "features", h  # (B, 64 width)
        yield "logits", self.head(h)  # (B, classes)
