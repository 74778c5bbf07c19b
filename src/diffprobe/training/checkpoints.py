"""Checkpoints: weights in safetensors, with what is needed to rebuild their network in the header."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffprobe.networks.build import Settings, build
from diffprobe.runtime import tensors as files
from diffprobe.runtime.devices import memory_format
from diffprobe.runtime.errors import UnknownKindError, UserError, one_line
from diffprobe.runtime.files import canonical
from diffprobe.runtime.tensors import CHECKPOINT


def write(path: Path, weights: dict[str, dict[str, Tensor]], header: dict[str, Any]) -> None:
    """Write one or more sets of weights of a network (state dicts by name) with a header, whole or not at all.

    The first set has the parameters' own names, so that anything can read it; others have their name in front:
    `NAME/parameter`. The header lists the sets under `weights`.
    """
    tensors: dict[str, Tensor] = {}
    for i, (name, state) in enumerate(weights.items()):
        tensors |= {f"{name}/{key}" if i else key: value for key, value in state.items()}
    files.write(path, tensors, CHECKPOINT, canonical(header | {"weights": list(weights)}))


def header(path: Path) -> dict[str, Any]:
    """The header: `network` (config), `shape` (what of the network follows from the data), `images` seen, `identity`;
    `image`, the shape of what it sees, `weights`, the sets that it has, and what its task adds (`Task.header`).

    Raises UserError where the file is damaged, or no checkpoint.
    """
    text = files.read_header(path, CHECKPOINT).text
    try:
        head = json.loads(text)
        complete = {"network": dict, "shape": dict, "weights": list}
        if all(isinstance(head[key], kind) for key, kind in complete.items()):
            return head
    except (ValueError, KeyError, TypeError, RecursionError):  # no JSON, or JSON of another type
        pass
    raise files.damaged(path, CHECKPOINT, "its header does not describe a network")


def load(
    path: Path, device: torch.device, parse: Callable[[dict[str, Any]], Settings], weights: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with the checkpoint's `weights` (the first set without a name), ready to evaluate, and the header.

    `parse` makes the model's settings of the header: `config.built.parse_model`. Raises UserError where there is no
    such set, where its weights are damaged or not finite, or do not fit the network.
    """
    head = header(path)
    state = state_dict(path, head["weights"], weights)
    refuse_non_finite(state, path)
    try:
        network = build(parse(head), **head["shape"])
        network.load_state_dict(state)
    except UnknownKindError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise files.damaged(path, CHECKPOINT, one_line(error)) from None
    network.eval().requires_grad_(False)  # whoever loads it only evaluates
    return network.to(device).to(memory_format=memory_format(device)), head


def refuse_non_finite(state: dict[str, Tensor], path: Path) -> None:
    """Raise a UserError that names the first tensor with NaN or infinite values: all that it made would be NaN too."""
    if bad := next((name for name, x in state.items() if x.is_floating_point() and not x.isfinite().all()), None):
        raise UserError(f"{path}: {bad} holds NaN or infinite values; use an earlier checkpoint, or train again")


def state_dict(path: Path, sets: list[str], weights: str | None) -> dict[str, Tensor]:
    """One of the sets of weights of a file, under the parameters' own names; no other is read.

    Raises UserError where there is no such set, or a tensor of it is damaged.
    """
    if weights not in (None, *sets):
        raise UserError(f"{path}: no weights called {weights}; it has {', '.join(sets)}")
    prefix = f"{weights}/" if weights in sets[1:] else ""  # the first set is under the bare names

    def belongs(name: str) -> bool:
        return name.startswith(prefix) if prefix else "/" not in name

    return {name.removeprefix(prefix): x for name, x in files.each(path, CHECKPOINT, belongs)}
