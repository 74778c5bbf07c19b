"""A checkpoint as evaluations see it: the network and its process."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffprobe.diffusion.edm import EDM
from diffprobe.training import checkpoints


class Model(NamedTuple):
    network: nn.Module
    process: EDM
    shape: tuple[int, int, int]  # (C, H, W) of an image


def load(path: Path, device: torch.device) -> Model:
    network, header = checkpoints.load(path, device)
    return Model(network, EDM.of(header["process"]), tuple(header["image"]))
