"""Checkpoints: weights in safetensors, with what is needed to rebuild their network in the header."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from diffprobe.networks.build import build
from diffprobe.runtime.files import atomic, canonical
from diffprobe.training.state import contiguous


def write(path: Path, module: nn.Module, header: dict) -> None:
    """Write the module's weights with a header, whole or not at all."""
    with atomic(path) as partial:
        save_file(contiguous(module.state_dict()), partial, metadata={"diffprobe": canonical(header)})


def header(path: Path) -> dict:
    """The header: `network` (config), `shape` (what of the network follows from the data), `images` seen, `identity`;
    `image`, the shape of what it sees, and what its kind of training adds (workflow/scripts/train.py).
    """
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["diffprobe"])


def load(path: Path, device: torch.device) -> tuple[nn.Module, dict]:
    """The network with the checkpoint's weights, ready to evaluate, and the header."""
    head = header(path)
    network = build(head["network"], **head["shape"])
    network.load_state_dict(load_file(path))
    network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    return network, head
