"""Random views of training images, as tensor operations on the device: crop and flip, then RandAugment.

The published code of SODA (Hudson et al. 2024, "SODA: Bottleneck Diffusion Models for Representation Learning") makes
them image by image with torchvision on PIL images. Here a batch takes as many operations as a single image, and no
number is read back from the device. An image's view depends on the image and on its own draws alone.

A change of what these functions return needs a version in a run's identity, as `config.names.AUGMENTATION` is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffprobe.data.randaugment import randaugment
from diffprobe.data.random_crop import random_crop
from diffprobe.runtime.keyed import Draws

if TYPE_CHECKING:
    from diffprobe.config.views import RandomView


def random_view(x: Tensor, draws: Draws, view: RandomView) -> Tensor:
    """A view of images (B, C, H, W) in [-1, 1], of the same shape, type and memory format.

    C is 1 or 3 with RandAugment; H and W are at least 8. Images are rounded to 256 grey levels, as bytes are, and so
    are the results: an image of bytes to which nothing happens comes back unchanged.
    """
    memory = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    with torch.autocast(x.device.type, enabled=False):  # bf16 holds no weights of pixels
        levels = (x.float() * 127.5).add_(127.5).round_().clamp_(0, 255).contiguous()
        if view.crop:
            levels = random_crop(levels, draws, view.crop)
        if view.randaugment:
            levels = randaugment(levels, draws, view.randaugment)
        return levels.div(127.5).sub_(1).to(x.dtype).contiguous(memory_format=memory)
