"""RandAugment on batches: each image gets its own operations (Cubuk et al. 2020, "RandAugment", section 3).

The 14 operations and their ranges are torchvision's, whose own transform draws once for a whole batch. Arithmetic on
grey levels is Pillow's, which the published code of SODA runs on. Pixels are moved by nearest neighbours, and black
comes in from outside.

Images are grey levels: whole numbers from 0 to 255 in float32, (B, C, H, W) with C = 1 or 3. A strength is a share of
the largest magnitude, from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffprobe.runtime.keyed import Draws

if TYPE_CHECKING:
    from diffprobe.config.views import RandAugment

LARGEST = 30  # magnitude
SHEAR, SHIFT, TURN, ENHANCE = 0.3, 150 / 331, math.radians(30), 0.9  # at the largest magnitude; shifts in widths
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
Operation = Callable[[Tensor, Tensor, float], Tensor]  # of grey levels, signs and strength


def randaugment(levels: Tensor, draws: Draws, settings: RandAugment) -> Tensor:
    """Grey levels (B, C, H, W) to the same; `settings.ops` operations in turn on a share p of the images."""
    gate, *choices = draws.uniforms("randaugment", 1 + 2 * settings.ops)
    applied, strength = gate < settings.p, settings.magnitude / LARGEST
    for which, coin in zip(choices[::2], choices[1::2], strict=True):
        operation = torch.where(applied, (which * len(NAMES)).long(), NAMES.index("identity"))
        levels = augment(levels, operation, torch.where(coin < 0.5, -1.0, 1.0), strength)
    return levels


def augment(levels: Tensor, operation: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Each image after its own operation. operation: index in `NAMES`, int64 (B,); sign: -1 or 1, (B,)."""
    levels = levels.clone()
    index = torch.arange(len(NAMES), device=operation.device)
    chosen = dict(zip(NAMES, index[:, None] == operation, strict=True))  # (B,) each, by one kernel
    moves = sign[:, None] * (operation[:, None] == index[1 : 1 + len(GEOMETRIC)])  # (B, 5)
    levels = on_some(moves.any(1), move, levels, moves, strength)
    for name, function in ON_LEVELS.items():
        levels = on_some(chosen[name], function, levels, sign[:, None, None, None], strength)
    return levels


def on_some(chosen: Tensor, function: Operation, levels: Tensor, signs: Tensor, strength: float) -> Tensor:
    """Images with the operation applied to those that are chosen (bool (B,)).

    Where the host can count them only these are computed, and replaced where they lie.
    """
    if not can_count(levels.device):
        return torch.where(chosen[:, None, None, None], function(levels, signs, strength), levels)
    rows = chosen.nonzero()[:, 0]
    return levels.index_copy_(0, rows, function(levels[rows], signs[rows], strength))


def can_count(device: torch.device) -> bool:
    """Whether the host can ask how many images are chosen without waiting: a GPU would have to finish first."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


# --- geometric operations: a pixel of the result is the one at the mapped place


def move(levels: Tensor, moves: Tensor, strength: float) -> Tensor:
    """Images sheared, shifted or turned. moves: (B, 5), of which one at most is not 0, but -1 or 1."""
    h, w = levels.shape[2:]
    # Centres of pixels, from the image's corner: rounded down, a place is the number of its pixel.
    x, y = torch.arange(w, device=levels.device) + 0.5, torch.arange(h, device=levels.device)[:, None] + 0.5
    column, row = ((a * x + b * y + c).floor_() for a, b, c in inverse(moves, strength, h, w))  # (B, H, W) each
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    place = torch.where(inside, row * w + column, 0).long().flatten(1)[:, None]  # (B, 1, H * W)
    moved = levels.flatten(2).gather(2, place.expand(-1, levels.shape[1], -1)).view_as(levels)
    return moved * inside[:, None]


Line = tuple[Tensor, Tensor, Tensor]  # a x + b y + c, each (B, 1, 1)


def inverse(moves: Tensor, strength: float, h: int, w: int) -> tuple[Line, Line]:
    """Where (x, y) of the result comes from, y pointing down: sheared about the corner, or turned about the centre (1:
    counter-clockwise).
    """
    shear_x, shear_y, right, down, turn = moves.mT[:, :, None, None]  # (B, 1, 1) each
    angle = TURN * strength * turn
    cos, sin = angle.cos(), angle.sin()
    right, down = int(SHIFT * w * strength) * right, int(SHIFT * h * strength) * down
    return (
        (cos, SHEAR * strength * shear_x - sin, (w - cos * w + sin * h) / 2 - right),
        (SHEAR * strength * shear_y + sin, cos, (h - sin * w - cos * h) / 2 - down),
    )


# --- operations on grey levels; signs are (B, 1, 1, 1)


def blend(levels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """From another image towards this one, and beyond it for factors above 1; fractions are cut off."""
    return (other + factor * (levels - other)).clamp_(0, 255).floor_()


def enhancement(sign: Tensor, strength: float) -> Tensor:
    return 1 + ENHANCE * strength * sign


def grey(levels: Tensor) -> Tensor:
    """Brightness (B, 1, H, W) by ITU-R 601-2, in whole multiples of 2^-16 as in Pillow: exact in float32."""
    if levels.shape[1] == 1:
        return levels
    red, green, blue = levels.unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536).floor_()[:, None]


def brightness(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    return blend(levels, torch.zeros_like(levels), enhancement(sign, strength))


def color(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Towards grey or away from it; changes no image of one channel."""
    return blend(levels, grey(levels), enhancement(sign, strength))


def contrast(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Towards the image's mean brightness or away from it."""
    mean = grey(levels).mean(dim=(2, 3), keepdim=True)
    return blend(levels, (mean + 0.5).floor_(), enhancement(sign, strength))


def sharpness(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Towards the image smoothed over 3x3 pixels (weights 1, in the middle 5) or away from it; the border stays."""
    rows = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * levels[:, :, 1:-1, 1:-1]
    smooth = levels.clone()
    smooth[:, :, 1:-1, 1:-1] = (sums / 13).round_()  # no half among multiples of 1/13
    return blend(levels, smooth, enhancement(sign, strength))


def posterize(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """The upper bits alone, from 8 down to 4."""
    step = 2 ** round(4 * strength)
    return (levels / step).floor_() * step


def solarize(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Levels from a threshold on are inverted."""
    return torch.where(levels < 255 * (1 - strength), levels, 255 - levels)


def autocontrast(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Each channel stretched to 0 .. 255."""
    low, high = levels.amin((2, 3), keepdim=True), levels.amax((2, 3), keepdim=True)
    # Quotients differ from whole numbers by 1/255 or not at all; some compilers' division is less exact than that is.
    stretched = ((levels - low) * 255 / (high - low).clamp(min=1) + 1 / 1024).floor_()
    return torch.where(high > low, stretched, levels)


def equalize(levels: Tensor, sign: Tensor, strength: float) -> Tensor:
    """Each channel by its histogram, so that all levels become about equally frequent, with Pillow's rounding."""
    values = levels.flatten(2).long()  # (B, C, P)
    pixels = values.shape[2]
    counts = values.new_zeros(*values.shape[:2], 256)
    counts.scatter_add_(2, values, torch.ones_like(values))
    step = (pixels - counts.gather(2, values.amax(2, keepdim=True))) // 255  # (B, C, 1): pixels below the highest level
    darker = counts.cumsum(2) - counts
    table = ((darker + step // 2) // step.clamp(min=1)).clamp_(max=255)
    return torch.where(step > 0, table.gather(2, values), values).view_as(levels).to(levels.dtype)


ON_LEVELS: dict[str, Operation] = {
    function.__name__: function
    for function in (brightness, color, contrast, sharpness, posterize, solarize, autocontrast, equalize)
}
NAMES = ("identity", *GEOMETRIC, *ON_LEVELS)  # in torchvision's order
