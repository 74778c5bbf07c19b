"""The one training loop: images as clock, keyed draws, no synchronisation within a tick."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from diffprobe.data.batch import Batches
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws, Key, torch_seed
from diffprobe.training.ema import EMA, decay
from diffprobe.training.state import State
from diffprobe.training.tasks import Task


@dataclass(frozen=True)
class Options:
    """How to train, whatever the task; counts in images."""

    batch: int
    lr: float
    seed: int = 0
    warmup: float = 0.0
    ema_half_life: float = 500_000.0
    ema_ramp: float = 0.05
    clip: float | None = None
    weight_decay: float = 0.0

    @property
    def tick(self) -> int:
        """Steps between two rows of the history: about a thousand images."""
        return max(1, round(1000 / self.batch))


def fresh(task: Task, options: Options) -> State:
    """The state of a run that has seen no image."""
    decay = {"lr": options.lr, "weight_decay": options.weight_decay}
    optimizer = torch.optim.AdamW(task.module.parameters(), fused=True, **decay)  # without decay it is Adam
    return State(task.module, EMA(task.module), optimizer)


def train(
    task: Task, stream: Batches, options: Options, state: State, stop: int, after_step: Callable[[State], None]
) -> None:
    """Take the state from its step to step `stop`, in place. Raises UserError when the loss is no longer finite."""
    parameters = list(task.module.parameters())
    task.module.train()
    while state.step < stop:
        seen = (state.step + 1) * options.batch
        batch = stream[state.step]
        torch.manual_seed(torch_seed(Key(options.seed, "dropout"), state.step))
        losses = task.losses(batch, Draws(options.seed, batch.positions))
        losses["loss"].backward()
        if options.clip is not None:
            nn.utils.clip_grad_norm_(parameters, options.clip)
        lr = options.lr * min(1.0, seen / options.warmup) if options.warmup else options.lr
        state.optimizer.param_groups[0]["lr"] = lr
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.ema.update(task.module, decay(seen, options.batch, options.ema_half_life, options.ema_ramp))
        for name, value in losses.items():
            state.sums[name] = state.sums.get(name, 0) + value.detach().double()
        state.step, state.summed = state.step + 1, state.summed + 1
        if state.step % options.tick == 0 or state.step == stop:
            tick(state, options, lr)
        after_step(state)


def tick(state: State, options: Options, lr: float) -> None:
    """Turn the sums since the last tick into a row of the history."""
    # Sorted, since a restored state has its sums in that order: a row is the same text after a stop.
    means = {name: float(value) / state.summed for name, value in sorted(state.sums.items())}
    if not math.isfinite(means["loss"]):
        raise UserError(
            f"the loss is {means['loss']} at step {state.step} (learning rate {lr:g}); "
            "lower train.lr or set train.clip; training then starts anew"
        )
    state.history.append({"step": state.step, "images": state.step * options.batch, "lr": lr, **means})
    state.sums, state.summed = {}, 0
