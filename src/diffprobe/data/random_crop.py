"""RandomResizedCrop on batches: a random part of each image, enlarged to the image's size, and a random flip.

Boxes are drawn as torchvision draws them (after Szegedy et al. 2015, "Going Deeper with Convolutions", section 6):
area and aspect ratio at random, ten tries for a box that fits, and a central one if none does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffprobe.runtime.keyed import Draws

if TYPE_CHECKING:
    from diffprobe.config.views import RandomCrop

TRIES = 10
# Weights of pixels are whole multiples of 1 / 2048. Their products with grey levels, and the sums of these, are exact
# in float32, in any order, and in a GPU's TF32 too: a pixel is the same in any batch and on any device.
FINE = 2048


@dataclass(frozen=True)
class Boxes:
    """The part that is kept of each image. Fields are (B,); lengths are whole numbers of pixels in float32."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool: left to right, after cropping


def random_crop(levels: Tensor, draws: Draws, crop: RandomCrop) -> Tensor:
    """Grey levels (B, C, H, W), whole numbers in float32, to the same of their random crops."""
    return enlarge(levels, draw_boxes(draws, crop, *levels.shape[2:]))


def draw_boxes(draws: Draws, crop: RandomCrop, height: int, width: int) -> Boxes:
    """Random boxes in images of this size. Those not to be cropped, a share of 1 - p, get the whole image, unflipped.

    The number of draws of an image is fixed: all tries are made, and the first that fits is taken.
    """
    gate, down, right, coin = draws.uniforms("crop", 4)
    area, ratio = draws.uniform("crop tries", (TRIES, 2)).unbind(2)  # (B, 10) each
    area = height * width * between(area, *crop.scale)
    ratio = between(ratio, *(math.log(bound) for bound in crop.ratio)).exp()
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first, found = fits.int().argmax(1, keepdim=True), fits.any(1)
    applied = gate < crop.p
    central_height, central_width = central_box(crop, height, width)

    def choose(tried: Tensor, central: int, whole: int) -> Tensor:
        return torch.where(applied, torch.where(found, tried.gather(1, first)[:, 0], central), whole)

    h, w = choose(heights, central_height, height), choose(widths, central_width, width)
    # Uniform over the places where the box lies inside; a central box lies in the middle, half a pixel to the top left.
    top, left = (
        torch.where(found | ~applied, (u * (size - length + 1)).floor(), ((size - length) / 2).floor())
        for u, size, length in ((down, height, h), (right, width, w))
    )
    return Boxes(top, left, h, w, applied & (coin < crop.flip))


def between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def central_box(crop: RandomCrop, height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest box with a permitted ratio that is nearest to the image's own."""
    low, high = crop.ratio
    if width / height < low:
        return round(width / low), width
    if width / height > high:
        return height, round(height * high)
    return height, width


def enlarge(levels: Tensor, boxes: Boxes) -> Tensor:
    """Each image's box at the size of the image, bilinear, rounded to grey levels along x and then along y as Pillow
    does. No box is larger than its image, so antialiasing, which is for shrinking, would change nothing.
    """
    h, w = levels.shape[2:]
    rows, columns = weights(boxes.top, boxes.height, h), weights(boxes.left, boxes.width, w, boxes.flip)
    along_x = rounded(levels.flatten(1, 2) @ columns.mT).view_as(levels)  # (B, C, H, W)
    return rounded(rows[:, None] @ along_x)


def rounded(levels: Tensor) -> Tensor:
    return levels.add_(0.5).floor_()


def weights(start: Tensor, length: Tensor, n: int, flip: Tensor | None = None) -> Tensor:
    """The matrices (B, n, n) that stretch `length` of n pixels to n, and mirror them on `flip`; arguments (B,)."""
    pixel = torch.arange(n, device=start.device)
    # The centre of a pixel of the result as a position in the image, (B, n). Beyond the centre of the box's first or
    # last pixel its value continues.
    at = (length / n)[:, None] * (pixel + 0.5) - 0.5
    at = start[:, None] + torch.minimum(at.clamp_(min=0), length[:, None] - 1)
    at = (at * FINE).round_() / FINE
    if flip is not None:
        at = torch.where(flip[:, None], at.flip(1), at)
    return (1 - (at[:, :, None] - pixel).abs_()).clamp_(min=0)
