"""Checkpoints: weights in safetensors, with what is needed to rebuild their network in the header."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffprobe.networks.build import Settings, build
from diffprobe.runtime.devices import memory_format
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical
from diffprobe.training.state import contiguous


def write(path: Path, weights: dict[str, dict[str, Tensor]], header: dict[str, Any]) -> None:
    """Write one or more sets of weights of a network (state dicts by name) with a header, whole or not at all.

    The first set has the parameters' own names, so that anything can read it; others have their name in front:
    `NAME/parameter`. The header lists the sets under `weights`.
    """
    tensors: dict[str, Tensor] = {}
    for i, (name, state) in enumerate(weights.items()):
        tensors |= {f"{name}/{key}" if i else key: value for key, value in state.items()}
    with atomic(path) as partial:
        save_file(contiguous(tensors), partial, metadata={"diffprobe": canonical(header | {"weights": list(weights)})})


def header(path: Path) -> dict[str, Any]:
    """The header: `network` (config), `shape` (what of the network follows from the data), `images` seen, `identity`;
    `image`, the shape of what it sees, `weights`, the sets that it has, and what its task adds (`Task.header`).
    """
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["diffprobe"])


def load(
    path: Path, device: torch.device, parse: Callable[[dict[str, Any]], Settings], weights: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with the checkpoint's `weights` (the first set without a name), ready to evaluate, and the header.

    `parse` makes the model's settings of the header: `config.built.parse_model`. Raises UserError where there is no
    such set, or its weights are not finite.
    """
    head = header(path)
    network = build(parse(head), **head["shape"])
    state = state_dict(path, head["weights"], weights)
    refuse_non_finite(state, path)
    network.load_state_dict(state)
    network.eval().requires_grad_(False)  # whoever loads it only evaluates
    return network.to(device).to(memory_format=memory_format(device)), head


def refuse_non_finite(state: dict[str, Tensor], path: Path) -> None:
    """Raise a UserError that names the first tensor with NaN or infinite values: all that it made would be NaN too."""
    if bad := next((name for name, x in state.items() if x.is_floating_point() and not x.isfinite().all()), None):
        raise UserError(f"{path}: {bad} holds NaN or infinite values; use an earlier checkpoint, or train again")


def state_dict(path: Path, sets: list[str], weights: str | None) -> dict[str, Tensor]:
    """One of the sets of weights of a file, under the parameters' own names; no other is read."""
    if weights not in (None, *sets):
        raise UserError(f"{path}: no weights called {weights}; it has {', '.join(sets)}")
    prefix = f"{weights}/" if weights in sets[1:] else ""  # the first set is under the bare names
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if (name.startswith(prefix) if prefix else "/" not in name)]  # noqa: SIM118
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
