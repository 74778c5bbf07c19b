"""Augmentation of training images, on tensors: a plain random flip, and EDM's non-leaking augmentation.

The latter flips, scales, rotates, stretches and shifts images, each with a small probability, and describes the result
in a label. A network conditioned on that label does not leak augmentations into its samples: given zeros, it draws
undistorted images (Karras et al. 2022, "Elucidating the Design Space", EDM, appendix F.2 and table 6; the pipeline is
that of Karras et al. 2020, "Training GANs with Limited Data", appendix B).

Angles are counter-clockwise as seen on the screen; x points right and y down, in pixels from the image centre.

A change of what these functions return needs a new `config.names.AUGMENTATION`, which is part of a run's identity.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.config.names import AUGMENT_LABEL
from diffprobe.runtime.keyed import Draws

LABEL_DIM = AUGMENT_LABEL  # numbers in an image's augmentation label

# EDM, table 6: A_scale = A_aniso = 2^0.2 and A_trans = 1/8, raised to or multiplied by standard normal draws.
LOG2_SCALE = 0.2
SHIFT = 0.125  # in widths and heights

# Low-pass filter of the wavelet sym6 (Daubechies' least asymmetric wavelet with 6 vanishing moments): of unit norm and
# orthogonal to its own even shifts, so that doubling the resolution and halving it again loses nothing.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
# Half a sample at twice the resolution, in pixels. The papers' code maps coordinates about a point half a sample off
# the centre of the doubled image, which almost undoes the delay of the asymmetric filter.
HALF_SAMPLE = 0.25
REACH = len(SYM6) // 2 - 1  # samples the filter reaches beyond the two that a pixel lies between, on either side


def random_flip(x: Tensor, draws: Draws) -> Tensor:
    """Images (B, C, H, W), each flipped left to right with probability 0.5."""
    return torch.where(draws.uniform("flip")[:, None, None, None] < 0.5, x.flip(3), x)


def edm(x: Tensor, draws: Draws, p: float = 0.12) -> tuple[Tensor, Tensor]:
    """EDM's augmentation of images (B, C, H, W) in [-1, 1]; also the labels, float32 (B, 9): see `Transforms.label`.

    Half of the images are flipped left to right; every other transform is applied with probability p, independently
    (the upside-down flip with p / 2). Image and label depend on the image's own draws alone, not on the batch. Height
    and width must be at least 4. The filter overshoots, so results may leave [-1, 1] a little.
    """
    transforms = draw_transforms(draws, p)
    memory = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    # Autocast would turn the filter's matrix products to bf16, which is visible in the image.
    with torch.autocast(x.device.type, enabled=False):
        augmented = warp(flip(x.float(), transforms), transforms.inverse(*x.shape[2:]))
    return augmented.to(x.dtype).contiguous(memory_format=memory), transforms.label()


@dataclass(frozen=True)
class Transforms:
    """Each image's transforms in the order of application; fields are (B,), zero where a transform is not applied.

    Labels do not identify transforms: (-anisotropy, axis + pi) has the label of (anisotropy, axis) and is its inverse.
    """

    flip_x: Tensor  # bool: left to right
    flip_y: Tensor  # bool: upside down
    scale: Tensor  # enlarged by 2^(0.2 scale)
    rotation: Tensor  # radians
    anisotropy: Tensor  # stretched by 2^(0.2 anisotropy) along an axis, and shrunk as much across it
    axis: Tensor  # radians: the direction of that axis
    shift_x: Tensor  # in 1/8 of the width
    shift_y: Tensor  # in 1/8 of the height

    def label(self) -> Tensor:
        """Float32 (B, 9), all 0 for an unchanged image; components in the order of EDM's table 6."""
        components = (
            self.flip_x, self.flip_y, self.scale, self.rotation.cos() - 1, self.rotation.sin(),
            self.anisotropy * self.axis.cos(), self.anisotropy * self.axis.sin(), self.shift_x, self.shift_y,
        )  # fmt: skip
        return torch.stack([component.float() for component in components], dim=1)

    def inverse(self, h: int, w: int) -> "Affine":
        """The maps from pixel (x, y) of the transformed image to its source; flips are not included."""
        scale, stretch = torch.exp2(LOG2_SCALE * self.scale), torch.exp2(LOG2_SCALE * self.anisotropy)
        zero = torch.zeros_like(stretch)
        # Rotate the axis onto x, undo the stretch there (shrink along, enlarge across), rotate back.
        unstretch = product(rotation_matrix(self.axis), (1 / stretch, zero, zero, stretch))
        unstretch = product(unstretch, rotation_matrix(-self.axis))
        # Last applied first.
        a, b, c, d = (entry / scale for entry in product(rotation_matrix(-self.rotation), unstretch))
        right, down = SHIFT * (w * self.shift_x), SHIFT * (h * self.shift_y)
        # forward: y = A x + t; inverse: x = A^-1 y - A^-1 t
        return (a, b, -a * right - b * down), (c, d, -c * right - d * down)


def draw_transforms(draws: Draws, p: float) -> Transforms:
    """Random transforms with the probabilities and magnitudes of EDM's training on CIFAR-10 (table 6)."""
    coin_x, coin_y, rotation, axis, axis_gate, *gates = draws.uniforms("augment choices", 10)
    scale, anisotropy, shift_x, shift_y = draws.normals("augment sizes", 4)
    gate_y, gate_scale, gate_rotation, gate_anisotropy, gate_shift = (gate < p for gate in gates)
    # As in EDM's code the axis has a gate of its own within anisotropy's: half of the stretches are horizontal.
    gate_axis = gate_anisotropy & (axis_gate < 0.5)
    return Transforms(
        flip_x=coin_x < 0.5,
        flip_y=gate_y & (coin_y < 0.5),
        scale=scale * gate_scale,
        rotation=math.pi * (2 * rotation - 1) * gate_rotation,
        anisotropy=anisotropy * gate_anisotropy,
        axis=math.pi * (2 * axis - 1) * gate_axis,
        shift_x=shift_x * gate_shift,
        shift_y=shift_y * gate_shift,
    )


# Matrices (a b; c d) as four tensors (B,), since a GPU starts a kernel for each product of matrices, perhaps in TF32.
Matrix = tuple[Tensor, Tensor, Tensor, Tensor]
# Maps to (a x + b y + c, d x + e y + f), each coefficient (B,).
Affine = tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def rotation_matrix(angle: Tensor) -> Matrix:
    """Rotations of (x, y) by angles (B,), counter-clockwise with y pointing down."""
    cos, sin = angle.cos(), angle.sin()
    return cos, sin, -sin, cos


def product(left: Matrix, right: Matrix) -> Matrix:
    (a, b, c, d), (e, f, g, h) = left, right
    return a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h


def flip(x: Tensor, transforms: Transforms) -> Tensor:
    """Images (B, C, H, W) with their flips applied; by indexing, which unlike `warp` is exact."""
    x = torch.where(transforms.flip_x[:, None, None, None], x.flip(3), x)
    return torch.where(transforms.flip_y[:, None, None, None], x.flip(2), x)


def warp(x: Tensor, inverse: Affine) -> Tensor:
    """Resample images (B, C, H, W), float32: pixel (x, y) comes from inverse (x, y).

    Beyond its border the image continues as its reflection for its own size less one pixel, then as zeros. Bilinear
    sampling takes place at twice the resolution, between an up- and a downsampling by the wavelet that are exact
    inverses, so that an identity map changes nothing.
    The filter is not symmetric: it delays the image by 0.2 pixels, and with `HALF_SAMPLE` the centre of rotation lies
    0.05 pixels left of and above the image centre, as in the paper's code.
    """
    h, w = x.shape[2:]
    (up_h, down_h), (up_w, down_w) = resampling(h, x.device), resampling(w, x.device)
    # Separable filters as two small matrices: on a GPU faster than a convolution with padding and stride.
    fine = up_h @ x @ up_w.T  # (B, C, 2 (3H - 2), 2 (3W - 2))
    grid = sampling_grid(inverse, h, w)
    sampled = F.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return down_h @ sampled @ down_w.T


def sampling_grid(inverse: Affine, h: int, w: int) -> Tensor:
    """Where to sample for `downsampling`, (B, 2H + 10, 2W + 10, 2), in the units of grid_sample ([-1, 1]).

    Sums instead of a matrix product, which a GPU may compute in TF32: samples would be off by a tenth of a pixel.
    """
    device = inverse[0][0].device
    # In pixels from the centre of the doubled image, (2W + 10,) and (2H + 10, 1).
    x, y = (half_pixels(n + REACH, device) + HALF_SAMPLE for n in (w, h))
    y = y[:, None]
    # (B, 2H + 10, 2W + 10). The padded image is 3W - 2 pixels wide, so its edge (grid_sample's 1) is at 1.5W - 1.
    coordinates = (
        (a[:, None, None] * x + b[:, None, None] * y + shift[:, None, None] - HALF_SAMPLE) / (1.5 * n - 1)
        for (a, b, shift), n in zip(inverse, (w, h), strict=True)
    )
    return torch.stack(list(coordinates), dim=-1)


def half_pixels(n: int, device: torch.device) -> Tensor:
    """The centres of the 2n half pixels that n pixels consist of, relative to their common centre, (2n,)."""
    return (torch.arange(2 * n, device=device) + 0.5 - n) / 2


RESAMPLING: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}  # a dictionary, since compilers know no caches


def resampling(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`upsampling` and `downsampling` of n pixels on a device, made once."""
    if (n, device) not in RESAMPLING:
        RESAMPLING[n, device] = upsampling(n).to(device), downsampling(n).to(device)
    return RESAMPLING[n, device]


def upsampling(n: int) -> Tensor:
    """The matrix (2 (3n - 2), n) that pads n pixels with their reflections, n - 1 on each side, and doubles them.

    Pixel k lies between samples 2k and 2k + 1 of the result.
    """
    size = 3 * n - 2
    filtering = filter_taps(torch.arange(2 * size)[:, None] - 2 * torch.arange(size) + REACH)  # (2 size, size)
    pixel = n - 1 - (n - 1 - torch.arange(1 - n, 2 * n - 1).abs()).abs()  # (size,): n-1 .. 1, 0 .. n-1, n-2 .. 0
    reflecting = F.one_hot(pixel, n).double()  # (size, n)
    # The filter sums to sqrt 2, and of its taps every other one meets a pixel: sqrt 2 keeps the mean.
    return (math.sqrt(2) * filtering @ reflecting).float()


def downsampling(n: int) -> Tensor:
    """The matrix (n, 2n + 10) that halves samples to n pixels; sample 0 is number -5, the first that pixel 0 uses."""
    filtering = filter_taps(torch.arange(2 * (n + REACH)) - 2 * torch.arange(n)[:, None])  # (n, 2n + 10)
    return (filtering / math.sqrt(2)).float()


def filter_taps(index: Tensor) -> Tensor:
    """The filter's taps at integer positions of any shape, float64: 0 outside [0, 12)."""
    inside = (index >= 0) & (index < len(SYM6))
    return torch.tensor(SYM6, dtype=torch.float64)[index.clamp(0, len(SYM6) - 1)] * inside
