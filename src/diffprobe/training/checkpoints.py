"""Checkpoints: weights in safetensors, with what is needed to rebuild their network in the header."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffprobe.networks.build import build
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical
from diffprobe.training.state import contiguous


def write(path: Path, weights: dict[str, dict[str, Tensor]], header: dict) -> None:
    """Write one or more sets of weights of a network (state dicts by name) with a header, whole or not at all.

    The first set has the parameters' own names, so that anything can read it; others have their name in front:
    `NAME/parameter`. The header lists the sets under `weights`.
    """
    tensors: dict[str, Tensor] = {}
    for i, (name, state) in enumerate(weights.items()):
        tensors |= {f"{name}/{key}" if i else key: value for key, value in state.items()}
    with atomic(path) as partial:
        save_file(contiguous(tensors), partial, metadata={"diffprobe": canonical(header | {"weights": list(weights)})})


def header(path: Path) -> dict:
    """The header: `network` (config), `shape` (what of the network follows from the data), `images` seen, `identity`;
    `image`, the shape of what it sees, `weights`, the sets that it has, and what its kind of training adds
    (workflow/scripts/train.py).
    """
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["diffprobe"])


def load(path: Path, device: torch.device, weights: str | None = None) -> tuple[nn.Module, dict]:
    """The network with the checkpoint's `weights` (the first set without a name), ready to evaluate, and the header.

    Raises UserError where it has no such set.
    """
    head = header(path)
    network = build(head["network"], **head["shape"])
    network.load_state_dict(state_dict(path, head["weights"], weights))
    network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    return network, head


def state_dict(path: Path, known: list[str], weights: str | None) -> dict[str, Tensor]:
    """One of the sets of weights of a file, under the parameters' own names; no other is read."""
    if weights not in (None, *known):
        raise UserError(f"{path}: no weights called {weights}; it has {', '.join(known)}")
    prefix = f"{weights}/" if weights in known[1:] else ""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if (name.startswith(prefix) if prefix else "/" not in name)]  # noqa: SIM118
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
