"""Augmentation of training images, on tensors: a plain random flip, and EDM's non-leaking augmentation.

The latter flips, scales, turns, stretches and shifts images, each rarely, and says in a label what it did. A network
that is told does not take the augmented images for the dataset's own: asked with zeros, it draws those (Karras et
al., Training GANs with limited data, 2020, appendix B; EDM, 2022, appendix F.2).

Angles are counter-clockwise as one looks at the picture, x is to the right and y down, in pixels from its centre.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.names import AUGMENT_LABEL
from diffprobe.runtime.keyed import Draws

LABEL = AUGMENT_LABEL  # numbers that tell what was done to an image

SIZE = 0.2  # standard deviation of a scale's and of a stretch's binary logarithm
SHIFT = 0.125  # standard deviation of a shift, in widths and heights

# The low-pass of the wavelet sym6 (Daubechies' least asymmetric one of 6 vanishing moments): of unit norm, and
# orthogonal to itself shifted by any even number of samples.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
REACH = len(SYM6) // 2 - 1  # samples that the filter reaches out on either side of the two that a pixel sits between


def flipped(x: Tensor, draws: Draws) -> Tensor:
    """Each image of x (B, C, H, W) as it is or, one time in two, flipped left to right."""
    return torch.where(draws.uniform("flip")[:, None, None, None] < 0.5, x.flip(3), x)


def edm(x: Tensor, draws: Draws, p: float = 0.12) -> tuple[Tensor, Tensor]:
    """Augmented images of x (B, C, H, W) in [-1, 1], and what was done to each, float32 (B, 9): see `Moves.label`.

    Half of the images are flipped left to right; every other move is made with probability p, independently (the
    upside-down flip with p / 2). An image and its label depend on its own row of draws alone. Sides are of 4 pixels
    or more. What is moved may leave [-1, 1] a little, as the filter overshoots.
    """
    moves = drawn(draws, p)
    memory = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    with torch.autocast(x.device.type, enabled=False):
        found = warped(mirrored(x.float(), moves), moves.inverse(*x.shape[2:]))
    return found.to(x.dtype).contiguous(memory_format=memory), moves.label()


@dataclass(frozen=True)
class Moves:
    """What is done to each image, in this order; every field (B,), and zero where that move is not made.

    The label does not tell all: (-stretch, axis + pi) has the label of (stretch, axis), and is its inverse.
    """

    flip_x: Tensor  # bool: left to right
    flip_y: Tensor  # bool: upside down
    scale: Tensor  # grown by 2^(0.2 scale)
    turn: Tensor  # radians
    stretch: Tensor  # grown by 2^(0.2 stretch) along an axis, and shrunk as much across it
    axis: Tensor  # radians: where that axis points
    shift_x: Tensor  # in 0.125 widths
    shift_y: Tensor  # in 0.125 heights

    def label(self) -> Tensor:
        """Float32 (B, 9), all 0 for an image as it is: the order is that of EDM."""
        numbers = (
            self.flip_x, self.flip_y, self.scale, self.turn.cos() - 1, self.turn.sin(),
            self.stretch * self.axis.cos(), self.stretch * self.axis.sin(), self.shift_x, self.shift_y,
        )  # fmt: skip
        return torch.stack([number.float() for number in numbers], dim=1)

    def inverse(self, h: int, w: int) -> Tensor:
        """Affine maps (B, 2, 3) from a pixel (x, y) of the moved picture to where it was before; flips not included."""
        scale, stretch = torch.exp2(SIZE * self.scale), torch.exp2(SIZE * self.stretch)
        along, across = 1 / stretch, stretch
        stretching = rotation(self.axis) @ torch.diag_embed(torch.stack([along, across], 1)) @ rotation(-self.axis)
        linear = rotation(-self.turn) @ stretching / scale[:, None, None]  # (B, 2, 2): the last move undone first
        shift = SHIFT * torch.stack([w * self.shift_x, h * self.shift_y], 1)[:, :, None]  # (B, 2, 1)
        return torch.cat([linear, -linear @ shift], dim=2)


def drawn(draws: Draws, p: float) -> Moves:
    """Moves at random, with the probabilities and the spreads of EDM's training on CIFAR-10."""
    coin_x, coin_y, turn, axis, turned_axis, *gates = draws.uniform("augment choices", (10,)).unbind(1)
    scale, stretch, shift_x, shift_y = draws.normal("augment sizes", (4,)).unbind(1)
    gate_y, gate_scale, gate_turn, gate_stretch, gate_shift = (gate < p for gate in gates)
    gate_axis = gate_stretch & (turned_axis < 0.5)
    return Moves(
        flip_x=coin_x < 0.5,
        flip_y=gate_y & (coin_y < 0.5),
        scale=scale * gate_scale,
        turn=math.pi * (2 * turn - 1) * gate_turn,
        stretch=stretch * gate_stretch,
        axis=math.pi * (2 * axis - 1) * gate_axis,
        shift_x=shift_x * gate_shift,
        shift_y=shift_y * gate_shift,
    )


def rotation(angle: Tensor) -> Tensor:
    """Matrices (B, 2, 2) that turn (x, y) by angles (B,), counter-clockwise where y points down."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, sin, -sin, cos], dim=1).reshape(-1, 2, 2)


def mirrored(x: Tensor, moves: Moves) -> Tensor:
    """The flips of images (B, C, H, W)."""
    x = torch.where(moves.flip_x[:, None, None, None], x.flip(3), x)
    return torch.where(moves.flip_y[:, None, None, None], x.flip(2), x)


def warped(x: Tensor, inverse: Tensor) -> Tensor:
    """Images (B, C, H, W), float32, read through affine maps (B, 2, 3): pixel (x, y) comes from inverse (x, y, 1).

    The picture goes on in reflections for its own size less one pixel on every side, and is 0 beyond. It is read from
    between pixels at twice the resolution: the wavelet gets there and back, which undo each other where nothing moved.
    The filter is not symmetric, so that all turns about a point that is 0.2 pixels right of and below the centre.
    """
    h, w = x.shape[2:]
    fine = finer(h, x.device) @ x @ finer(w, x.device).T  # (B, C, 2 (3H - 2), 2 (3W - 2))
    read = F.grid_sample(fine, places(inverse, h, w), mode="bilinear", padding_mode="zeros", align_corners=False)
    return coarser(h, x.device) @ read @ coarser(w, x.device).T


def places(inverse: Tensor, h: int, w: int) -> Tensor:
    """Where `warped` reads every sample that `coarser` needs, (B, 2H + 10, 2W + 10, 2), in grid_sample's units.

    Sums and not a matrix product, which the GPU may round to where samples are off by a tenth of a pixel.
    """
    x, y = (halves(n + REACH, inverse.device) for n in (w, h))  # (2W + 10,), (2H + 10,)
    along_x, along_y, shift = inverse[:, None, None].unbind(-1)  # (B, 1, 1, 2) each
    found = along_x * x[:, None] + along_y * y[:, None, None] + shift  # in pixels from the centre
    return torch.stack([found[..., 0] / (1.5 * w - 1), found[..., 1] / (1.5 * h - 1)], dim=-1)


def halves(n: int, device: torch.device) -> Tensor:
    """The centres of the 2n half pixels that n pixels consist of, from their common centre, (2n,)."""
    return (torch.arange(2 * n, device=device) + 0.5 - n) / 2


@lru_cache
def finer(n: int, device: torch.device) -> Tensor:
    """The matrix (2 (3n - 2), n) that goes on with n pixels in reflections, n - 1 on each side, and doubles them.

    Pixel k sits between samples 2k and 2k + 1 of what it is doubled to.
    """
    size = 3 * n - 2
    filtering = taps(torch.arange(2 * size)[:, None] - 2 * torch.arange(size) + REACH)  # (2 size, size)
    pixel = n - 1 - (n - 1 - torch.arange(1 - n, 2 * n - 1).abs()).abs()  # (size,): n-1 .. 1, 0 .. n-1, n-2 .. 0
    reflecting = F.one_hot(pixel, n).double()  # (size, n)
    return (math.sqrt(2) * filtering @ reflecting).float().to(device)


@lru_cache
def coarser(n: int, device: torch.device) -> Tensor:
    """The matrix (n, 2n + 10) that halves samples to n pixels; the first sample is number -5, pixel 0's farthest."""
    filtering = taps(torch.arange(2 * (n + REACH)) - 2 * torch.arange(n)[:, None])  # (n, 2n + 10)
    return (filtering / math.sqrt(2)).float().to(device)


def taps(index: Tensor) -> Tensor:
    """The filter at whole numbers of any shape, float64: 0 before its first tap and after its last."""
    inside = (index >= 0) & (index < len(SYM6))
    return torch.tensor(SYM6, dtype=torch.float64)[index.clamp(0, len(SYM6) - 1)] * inside
