"""A linear layer that computes in the way that is fastest on its device."""

from torch import Tensor, nn
from torch.nn import functional as F

from diffprobe.runtime.devices import convolves_faster, in_float32_on_cpu

IMAGES = 16  # from so many on torch hands 1x1 convolutions to oneDNN, with one thread too
FEWEST = 256  # rows of x; of fewer a convolution is no faster


class Linear(nn.Linear):
    """`torch.nn.Linear` for rows x (..., in), with its weights, names and results up to rounding.

    On a CPU that `convolves_faster`, products in float32 are computed as 1x1 convolutions, over rows as the pixels of
    16 images of one column: a view of x, and of the result. A step of a DiT takes a third less time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.convolves(x):
            return super().forward(x)
        images = x.reshape(IMAGES, -1, 1, self.in_features).permute(0, 3, 1, 2)  # (16, in, rows / 16, 1)
        out = F.conv2d(images, self.weight[:, :, None, None], self.bias)  # (16, out, rows / 16, 1), channels last
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)

    def convolves(self, x: Tensor) -> bool:
        rows = x.numel() // self.in_features
        return in_float32_on_cpu(x) and rows >= FEWEST and rows % IMAGES == 0 and convolves_faster()
