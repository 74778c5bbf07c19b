"""Everything that a training run must remember to go on bit for bit. Draws are keyed, so no generator is kept."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffprobe.runtime import tensors as files
from diffprobe.runtime.tensors import STATE
from diffprobe.training import optimizers
from diffprobe.training.ema import EMA

Row = dict[str, float]  # of the history: step, images, lr, and the mean of each loss since the row before


@dataclass
class Adversary:
    """What is trained against a run's module; its optimiser has taken `steps` steps."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int = 0


@dataclass
class State:
    """A run in memory: weights, their averages, the optimiser, the step reached, and its history since the slice began.

    `sums` holds the losses summed since the last row of the history, `summed` how many steps they cover, `recent` the
    losses of the steps since, on the device; `lr` is the last learning rate, `bad` the first step whose loss was NaN or
    infinite.
    """

    module: nn.Module
    emas: dict[str, EMA]  # by the name of the average
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimiser steps taken since the run began
    history: list[Row] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    recent: list[dict[str, Tensor]] = field(default_factory=list)
    lr: float = 0.0
    bad: int | None = None
    adversary: Adversary | None = None

    def note(self, losses: dict[str, Tensor], lr: float) -> None:
        """Keep the losses of the step just taken, scalars that nothing may overwrite. It computes nothing, so that
        nothing waits for the device.
        """
        self.lr = lr
        self.recent.append(losses)

    def settle(self) -> None:
        """Add the recent losses to the sums, in the order of steps, and look for a bad one; waits for the device."""
        losses: dict[str, list[Tensor]] = {}
        for step in self.recent:
            for name, value in step.items():
                losses.setdefault(name, []).append(value)
        values = {name: torch.stack(each).tolist() for name, each in losses.items()}
        for name, each in values.items():
            for value in each:  # one by one, so that a stop between two does not change the rounding
                self.sums[name] = self.sums.get(name, 0.0) + value
        first = self.step - len(self.recent) + 1
        bad = (first + i for i, value in enumerate(values.get("loss", [])) if not math.isfinite(value))
        self.bad = next(bad, None) if self.bad is None else self.bad
        self.summed += len(self.recent)
        self.recent = []

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by their names in a state file; waits for the device."""
        self.settle()
        out = learned(self.module, self.optimizer, self.step)
        for average, ema in self.emas.items():
            out |= {f"ema.{average}.{name}": value for name, value in ema.module.state_dict().items()}
        out |= {f"sums.{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.sums.items()}
        if self.adversary is not None:
            own = learned(self.adversary.module, self.adversary.optimizer, self.adversary.steps)
            out |= {f"adversary.{name}": value for name, value in own.items()}
        return out


OURS = ("raw", "ema", "sums", "adversary")  # first parts of names; all others are keys of the optimiser's state


def learned(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Tensor]:
    """A module's weights and buffers, and its optimiser's state after so many steps."""
    weights = {f"raw.{name}": value for name, value in module.state_dict().items()}
    return weights | optimizers.kept(module, optimizer, steps)


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int, parts: dict[str, dict[str, Tensor]]) -> None:
    """Take over, in place, what `learned` returned, grouped by the first part of the names."""
    module.load_state_dict(parts["raw"])
    moments = {key: values for key, values in parts.items() if key not in OURS}
    optimizers.take(module, optimizer, steps, moments)


def save(path: Path, state: State, tags: dict[str, str]) -> None:
    """Write a state, whole or not at all; `tags` say what it belongs to."""
    tensors = state.tensors()
    meta = {"step": state.step, "history": state.history, "summed": state.summed, **tags}
    if state.adversary is not None:
        meta["adversary_steps"] = state.adversary.steps
    # Without `lr` and `bad`: the first is set by the next step, and no state with a bad loss is saved.
    files.write(path, tensors, STATE, json.dumps(meta))


def peek(path: Path) -> dict[str, Any] | None:
    """A state file's metadata; None where there is no file. Raises UserError for one that is damaged or foreign.

    It is not passed over: training would start from an earlier state, and take days longer, without a word.
    """
    if not path.exists():
        return None
    text = files.read_header(path, STATE).text
    try:
        meta = json.loads(text)
        if {"step", "history", "summed"} <= meta.keys():
            return meta
    except (ValueError, AttributeError):  # no JSON, or JSON of another type
        pass
    raise files.damaged(path, STATE, "its header does not describe a state")


def restore(path: Path, state: State) -> None:
    """Load a state file into a fresh state, in place. Raises UserError, before anything changes, for a damaged one."""
    meta = peek(path)
    assert meta is not None, path
    parts = grouped(dict(files.each(path, STATE)))
    learn(state.module, state.optimizer, meta["step"], parts)
    averages = grouped(parts.get("ema", {}))  # names are ema.AVERAGE.PARAMETER
    for average, ema in state.emas.items():
        ema.module.load_state_dict(averages[average])
    if state.adversary is not None:
        state.adversary.steps = meta["adversary_steps"]
        own = grouped(parts["adversary"])
        learn(state.adversary.module, state.adversary.optimizer, state.adversary.steps, own)
    state.sums = {name: float(value) for name, value in parts.get("sums", {}).items()}
    state.step, state.history, state.summed = meta["step"], meta["history"], meta["summed"]


def grouped(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By the first part of their names, which ends at a dot."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, key = name.split(".", 1)
        parts.setdefault(part, {})[key] = value
    return parts
