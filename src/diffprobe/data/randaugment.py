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
import torch.nn.functional as F
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
    moved = (operation > 0) & (operation <= len(GEOMETRIC))
    levels = on_some(moved, move, levels, sign * operation * moved, strength)
    for name, function in ON_LEVELS.items():
        levels = on_some(chosen[name], function, levels, sign[:, None, None, None], strength)
    return levels


def on_some(chosen: Tensor, function: Operation, levels: Tensor, signs: Tensor, strength: float) -> Tensor:
    """Images with the operation applied to those that are chosen (bool (B,)).

    Where the host can count them only these are computed, and replaced where they lie.
    """
    if not can_count(levels.device):
        return torch.where(chosen[:, None, None, None], function(levels, signs, strength), levels)
    rows = chosen.nonzero().squeeze(1)
    changed = function(levels.index_select(0, rows), signs.index_select(0, rows), strength)
    return levels.index_copy_(0, rows, changed)


def can_count(device: torch.device) -> bool:
    """Whether the host can ask how many images are chosen without waiting: a GPU would have to finish first."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


# --- geometric operations: a pixel of the result is the one at the mapped place


def move(levels: Tensor, moves: Tensor, strength: float) -> Tensor:
    """Images sheared, shifted or turned. moves: sign times the operation's index in `NAMES`, (B,); 0: not moved."""
    b, c, h, w = levels.shape
    places = places_on(levels.device, h, w, strength)[moves.long()]  # (B, H * W); a negative index counts from the end
    bordered = F.pad(levels.flatten(2), (0, 1))  # (B, C, H * W + 1)
    return bordered.gather(2, places[:, None].expand(b, c, h * w)).view_as(levels)


PLACES: dict[tuple[torch.device, int, int, float], Tensor] = {}  # a dictionary, since compilers know no caches


def places_on(device: torch.device, h: int, w: int, strength: float) -> Tensor:
    """`places` of all moves of one strength, int64 (11, H * W), made once: sign times index is the row."""
    key = device, h, w, strength
    if key not in PLACES:
        moves = [0, *range(1, 1 + len(GEOMETRIC)), *range(-len(GEOMETRIC), 0)]
        PLACES[key] = torch.stack([places(move, h, w, strength) for move in moves]).to(device)
    return PLACES[key]


def places(move: int, h: int, w: int, strength: float) -> Tensor:
    """The pixel that each one of the result comes from, int64 (H * W,), numbered by rows; H * W: from outside."""
    (a, b, c), (d, e, f) = inverse(move, h, w, strength)
    # Centres of pixels, from the image's corner, with y pointing down; rounded down, a place is its pixel's number.
    x, y = torch.arange(w, dtype=torch.float64) + 0.5, torch.arange(h, dtype=torch.float64)[:, None] + 0.5
    column, row = (a * x + b * y + c).floor().long(), (d * x + e * y + f).floor().long()  # (H, W) each
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    return torch.where(inside, row * w + column, h * w).flatten()


def inverse(
    move: int, h: int, w: int, strength: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Where (x, y) comes from, (a x + b y + c, d x + e y + f): sheared about the corner, turned about the centre."""
    name, sign = ("identity", *GEOMETRIC)[abs(move)], math.copysign(1, move)
    shear, angle = sign * SHEAR * strength, sign * TURN * strength  # counter-clockwise
    cos, sin = math.cos(angle), math.sin(angle)
    maps = {
        "identity": ((1, 0, 0), (0, 1, 0)),
        "shear_x": ((1, shear, 0), (0, 1, 0)),
        "shear_y": ((1, 0, 0), (shear, 1, 0)),
        "translate_x": ((1, 0, -sign * int(SHIFT * w * strength)), (0, 1, 0)),
        "translate_y": ((1, 0, 0), (0, 1, -sign * int(SHIFT * h * strength))),
        "rotate": ((cos, -sin, (w - cos * w + sin * h) / 2), (sin, cos, (h - sin * w - cos * h) / 2)),
    }
    return maps[name]


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
