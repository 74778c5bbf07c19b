"""Conversion between stored bytes and the values that networks take."""

import torch
from torch import Tensor

from diffprobe.runtime.devices import memory_format

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet in [0, 1]: red, green, blue


def to_uint8(x: Tensor) -> Tensor:
    """Floats in [-1, 1], (B, C, H, W), to uint8 (B, H, W, C), rounded to nearest."""
    return (x * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def first_non_finite(x: Tensor) -> int | None:
    """The position in a batch (B, ...) of the first image, or row of features, with NaN or infinite values; else None.

    `to_uint8` would make black pixels of NaN.
    """
    bad = ~x.isfinite().flatten(1).all(dim=1)  # (B,)
    return int(bad.int().argmax()) if bad.any() else None


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, H, W, C) to floats in [-1, 1], (B, C, H, W), in the device's memory format."""
    form = memory_format(images.device)
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=form).div_(127.5).sub_(1)


def imagenet_normalised(x: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], minus ImageNet's mean, divided by its standard deviation; grey ones (B, 1, H, W)
    become (B, 3, H, W).
    """
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (x - mean) / deviation


def from_imagenet(x: Tensor) -> Tensor:
    """The inverse of `imagenet_normalised`, (B, 3, H, W), as images in [-1, 1]."""
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return 2 * (x * deviation + mean) - 1
