"""Residual networks of images (He et al. 2016, table 1): SODA's encoder.

Parameters have torchvision's names. As there, blocks of three convolutions have their stride in the 3x3 one.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.config.names import RESNET_TAPS

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # by depth
BOTTLENECKS_FROM = 50


def conv(width_in: int, width_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Without a bias, since a norm follows; keeps the resolution but for the stride."""
    return nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(width_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = shortcut(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))  # (B, width, H', W')
        return F.relu(self.downsample(x) + self.bn2(self.conv2(h)))


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution; the last has four times the width."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(width_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(width_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))  # (B, width, H, W)
        h = F.relu(self.bn2(self.conv2(h)))  # (B, width, H', W')
        return F.relu(self.downsample(x) + self.bn3(self.conv3(h)))  # (B, 4 width, H', W')


def shortcut(width_in: int, width_out: int, stride: int) -> nn.Sequential:
    """Nothing, or a 1x1 convolution and its norm where the shape changes."""
    if stride == 1 and width_in == width_out:
        return nn.Sequential()
    return nn.Sequential(conv(width_in, width_out, 1, stride), nn.BatchNorm2d(width_out))


class ResNet(nn.Module):
    """`forward(x)`: images (B, image_channels, H, W) in [-1, 1] to the code (B, z), and all taps by name.

    Taps: stage_1 to stage_4 (B, C, h, w); features (B, 8 width, four times that from depth 50 on), their mean over
    positions; z (B, z), linear in the features. `mean` and `std` normalise images in [0, 1], per channel; None: they
    are seen as in [0, 1].
    """

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __init__(
        self,
        image_channels: int,
        z: int,
        depth: int = 18,  # a key of BLOCKS
        stem: str = "small",  # a 3x3 convolution; or `large`: 7x7 of stride 2 and max-pooling, a quarter of the size
        width: int = 64,  # of the first stage's 3x3 convolutions; each later stage doubles it
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        init: str = "kaiming",  # torchvision's; or `xavier`, uniform
    ) -> None:
        super().__init__()
        self.taps, self.large = list(RESNET_TAPS), stem == "large"
        # Not in the state dict: they follow from the config, and published weights have none.
        for name, values, plain in (("mean", mean, 0.0), ("std", std, 1.0)):
            per_channel = torch.tensor(values or [plain] * image_channels)  # (C,)
            self.register_buffer(name, per_channel[:, None, None], persistent=False)
        self.conv1 = conv(image_channels, width, 7, 2) if self.large else conv(image_channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        block = Bottleneck if depth >= BOTTLENECKS_FROM else BasicBlock
        width_in = width
        for stage, blocks in enumerate(BLOCKS[depth]):
            layers = []
            for i in range(blocks):
                layers.append(block(width_in, width * 2**stage, 2 if stage and i == 0 else 1))
                width_in = width * 2**stage * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(width_in, z)
        initialise(self, init)

    def normalised(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] as the body sees them."""
        return ((x + 1) / 2 - self.mean) / self.std  # (B, C, H, W)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.body(self.normalised(x))

    def body(self, normalised: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`forward` of images that are normalised already."""
        tapped = dict(self.activations(normalised))
        return tapped["z"], tapped

    def activations(self, normalised: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each tap's name and value, in the order of computation; nothing is computed before it is asked for."""
        h = F.relu(self.bn1(self.conv1(normalised)))  # (B, width, H, W)
        if self.large:
            h = F.max_pool2d(h, 3, stride=2, padding=1)
        for stage in range(1, 5):
            h = self.get_submodule(f"layer{stage}")(h)  # (B, C, h, w)
            yield f"stage_{stage}", h
        h = h.mean(dim=(2, 3))  # (B, C)
        yield "features", h
        yield "z", self.fc(h)  # (B, z)


def initialise(network: nn.Module, init: str) -> None:
    """`kaiming`: normal weights of variance 2 / fan-out, as torchvision draws them; `xavier`: Glorot & Bengio's, with a
    zero bias in the linear layer.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and init == "kaiming":
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d | nn.Linear) and init == "xavier":
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
