"""Small DiTs for tests. As a script, writes the random weights that config/smoke_dit.yaml takes for published ones."""

import sys
from pathlib import Path

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


def write_published(path: Path, classes: int = 1000, **numbers: int) -> DiT:
    """Write a DiT of random weights as DiT's code does: learned variance, the position table, raw weights and average.

    By default the network of config/smoke_dit.yaml, for latents of 4 x 16 x 16 and ImageNet's classes.
    """
    torch.manual_seed(0)
    network = DiT(4, **{"width": 32, "depth": 14, "heads": 2, "patch": 2} | numbers, classes=classes, out_channels=8)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    grid = 16 // network.patch
    state = {**network.state_dict(), "pos_embed": network.position_table(grid, grid, torch.device("cpu"))}
    raw = {name: value + 1 for name, value in state.items()}  # whoever takes these is wrong
    torch.save({"model": raw, "ema": state, "opt": {}, "args": None}, path)
    return network.eval()


if __name__ == "__main__":
    write_published(Path(sys.argv[1]))
