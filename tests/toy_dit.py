"""A small DiT for tests."""

import torch
from torch import nn

from diffprobe.networks.dit import DiT


def small(classes: int = 10, out_channels: int | None = None, **options: object) -> DiT:
    """With all weights at work, as adaLN-Zero's are not before training."""
    torch.manual_seed(0)
    network = DiT(4, width=48, depth=2, heads=4, patch=2, classes=classes, out_channels=out_channels, **options).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network
