"""The structural similarity of images (Wang et al., Image quality assessment: from error visibility to structural
similarity, 2004, section III).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # pixels: a circular-symmetric Gaussian
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with L = 1, the range of [0, 1]


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """The mean SSIM (eq. 13, 17) of images (B, C, H, W) in [-1, 1] with images: (B,), 1 for equal ones.

    The mean is over channels and all positions of the window within the image. ValueError for images under WINDOW
    pixels, which have no such position.
    """
    if min(a.shape[2:]) < WINDOW:
        raise ValueError(f"images of {tuple(a.shape[2:])} pixels, SSIM takes {WINDOW} or more")
    a, b = ((x.double() + 1) / 2 for x in (a, b))  # in [0, 1]; float64, as variances are small differences of squares
    mean_a, mean_b = blurred(a), blurred(b)  # (B, C, H - 10, W - 10)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2  # E[x^2] - E[x]^2 under the window
    covariance = blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (var_a + var_b + C2)
    return (luminance * structure).flatten(1).mean(dim=1)


def blurred(x: Tensor) -> Tensor:
    """The weighted mean in every window, (B, C, H, W) to (B, C, H - 10, W - 10)."""
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-offset.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    channels = x.shape[1]
    for shape in ((WINDOW, 1), (1, WINDOW)):  # a Gaussian is separable: 2 x 11 products instead of 121
        x = F.conv2d(x, weights.reshape(1, 1, *shape).expand(channels, 1, *shape), groups=channels)
    return x
