"""The codec that fits an autoencoder to a dataset's images."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOGVAR = (-30.0, 20.0)  # log-variances are clamped to this, as AutoencoderKL does


def posterior(moments: Tensor, noise: Tensor | None) -> Tensor:
    """A latent (B, C, h, w) drawn from its posterior, or without noise the mean.

    moments (B, 2C, h, w): means, then log-variances; noise (B, C, h, w).
    """
    mean, logvar = moments.chunk(2, dim=1)  # (B, C, h, w) each
    # The reparametrisation of Kingma & Welling 2014, section 2.4.
    return mean if noise is None else mean + (logvar / 2).exp() * noise


@dataclass(frozen=True)
class Codec:
    """An autoencoder of `channels` x `size` x `size` images, for a dataset's images (C, H, H) in [-1, 1].

    `network` has `encoder` and `decoder` and may have, on both sides of latents, `quant_conv` and `post_quant_conv`.
    `resize` is `bilinear` (with antialiasing), or `repeat`: each pixel is repeated, which resizing back undoes exactly.
    """

    network: Any  # see above
    size: int  # height and width of its images
    channels: int  # of its images
    image: tuple[int, int, int]  # (C, H, W) of the dataset
    resize: str = "bilinear"

    def preprocess(self, x: Tensor) -> Tensor:
        """The dataset's images (B, C, H, W) to the network's input (B, channels, size, size): grey ones repeated."""
        x = x.expand(-1, self.channels, -1, -1) if x.shape[1] == 1 else x  # (B, channels, H, W)
        return resized(x, self.size, self.resize)

    @property
    def holds(self) -> str:
        """What `moments` are: `moments`, or `latents` where there is no posterior (diffusers' AutoencoderTiny)."""
        return "latents" if type(self.network).__name__ == "AutoencoderTiny" else "moments"

    def at_once(self, device: torch.device) -> int:
        """How many images may pass through it at once, a power of 2: 16 of 256 x 256 on a GPU, 4 on a CPU.

        An image of that size takes 0.3 GB in the widest layers of Stable Diffusion's, and a CPU is no faster with more.
        """
        pixels = 2**18 if device.type == "cpu" else 2**20
        return 2 ** max(0, math.floor(math.log2(pixels / self.size**2)))

    def moments(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the posterior's mean and log-variance (B, 2c, h, w), or to latents (B, c, h, w)."""
        h = self.network.encoder(self.preprocess(x))  # (B, 2c, h, w), or (B, c, h, w)
        encoded = optional_layer(self.network, "quant_conv", h)
        if self.holds == "latents":
            return encoded  # (B, c, h, w)
        mean, logvar = encoded.chunk(2, dim=1)  # (B, c, h, w) each
        return torch.cat([mean, logvar.clamp(*LOGVAR)], dim=1)  # (B, 2c, h, w)

    def latents(self, moments: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents (B, c, h, w) from `moments`: samples of the posterior, or without noise its mean."""
        return posterior(moments, noise) if self.holds == "moments" else moments

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, c, h, w) to the network's images (B, channels, size, size)."""
        return self.network.decoder(optional_layer(self.network, "post_quant_conv", z))

    def postprocess(self, x: Tensor) -> Tensor:
        """The network's images (B, channels, size, size) in the dataset's shape (B, C, H, W)."""
        x = x.mean(dim=1, keepdim=True) if self.image[0] == 1 else x  # (B, C, size, size)
        return resized(x, self.image[1], self.resize)


def optional_layer(network: nn.Module, name: str, x: Tensor) -> Tensor:
    """x through a layer that not every autoencoder has."""
    layer = getattr(network, name, None)
    return x if layer is None else layer(x)


def resized(x: Tensor, size: int, resize: str) -> Tensor:
    """Square images (B, C, H, H) at size x size; `repeat` repeats pixels, or averages the repeated ones."""
    if x.shape[2] == size:
        return x
    if resize == "repeat":
        return F.interpolate(x, size=(size, size), mode="nearest" if size > x.shape[2] else "area")  # (B, C, S, S)
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)  # (B, C, S, S)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB (B,) of images (B, ...) in [-1, 1]."""
    mse = (a - b).square().flatten(1).mean(dim=1).clamp(min=1e-10)  # (B,); at most 106 dB, where images are equal
    return 10 * torch.log10(4 / mse)  # 10 log10(peak^2 / MSE), the peak being 2
