"""A small convolutional classifier, from which the `classifier` extractor takes its features."""

import torch.nn.functional as F
from torch import Tensor, nn


class SmallClassifier(nn.Module):
    """Three convolutions with group norm, the last two halving the resolution; mean pooling; a linear head.

    x (B, image_channels, H, W) in [-1, 1], H and W at least 4.
    """

    def __init__(self, image_channels: int, classes: int, channels: int = 32) -> None:
        super().__init__()
        widths = (channels, 2 * channels, 4 * channels)
        self.dim = widths[-1]
        self.conv1 = nn.Conv2d(image_channels, widths[0], 3, padding=1)  # (B, channels, H, W)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, padding=1, stride=2)  # (B, 2 channels, H/2, W/2)
        self.conv3 = nn.Conv2d(widths[1], widths[2], 3, padding=1, stride=2)  # (B, 4 channels, H/4, W/4)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)  # unlike batch norm, the same in testing
        self.head = nn.Linear(self.dim, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, dim), not negative."""
        for conv, norm in zip((self.conv1, self.conv2, self.conv3), self.norms, strict=True):
            x = F.relu(norm(conv(x)))  # (B, C, H', W')
        return x.mean(dim=(2, 3))  # (B, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # (B, classes)
