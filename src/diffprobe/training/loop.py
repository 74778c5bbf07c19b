"""The one training loop: images as clock, keyed draws, no synchronisation within a tick."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffprobe.data.batch import Feed
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws, Key, torch_seed
from diffprobe.training.ema import EMA, decay
from diffprobe.training.state import Adversary, State
from diffprobe.training.tasks import Task, modules
from diffprobe.training.world import World

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
HALF_LIFE = {"kind": "half_life", "kimg": 500.0, "ramp": 0.05}


@dataclass(frozen=True)
class Options:
    """How to train, whatever the task; counts in images. `device_batch` and `bf16` change rounding only."""

    batch: int
    lr: float
    seed: int = 0
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: float = 0.0
    cosine: float | None = None
    averages: dict[str, dict[str, Any]] = field(default_factory=lambda: {"ema": HALF_LIFE})
    clip: float | None = None
    bf16: bool = False
    device_batch: int | None = None

    @property
    def tick(self) -> int:
        """Steps between two rows of the history: about a thousand images."""
        return max(1, round(1000 / self.batch))


class DivergedError(UserError):
    """The loss is no number any more."""


def fresh(task: Task, options: Options) -> State:
    """The state of a run that has seen no image."""
    emas = {name: EMA(task.module) for name in options.averages}
    own, *others = (optimizer(module, options) for module in modules(task))
    adversary = Adversary(task.adversary, others[0]) if others else None
    return State(task.module, emas, own, adversary=adversary)


def optimizer(module: nn.Module, options: Options) -> torch.optim.Adam:
    rates = {"lr": options.lr, "betas": options.betas, "weight_decay": options.weight_decay}
    return OPTIMIZERS[options.optimizer](module.parameters(), fused=True, **rates)


def learning_rate(options: Options, seen: int) -> float:
    """The rate of the step that brings the count to `seen` images: linear warm-up, then constant or falling to zero as
    a cosine (Loshchilov & Hutter, SGDR, 2017, eq. 5).
    """
    lr = options.lr
    if options.warmup:
        lr *= min(1.0, seen / options.warmup)
    if options.cosine:
        lr *= (1 + math.cos(math.pi * min(1.0, seen / options.cosine))) / 2
    return lr


def train(
    task: Task,
    stream: Feed,
    options: Options,
    state: State,
    stop: int,
    after_step: Callable[[State], None],
    world: World | None = None,
) -> None:
    """Take the state from its step to step `stop`, in place. Raises DivergedError when the loss is no longer finite."""
    world = world or World()
    parameters = [parameter for module in modules(task) for parameter in module.parameters()]
    begins = contest(task, options)
    for module in modules(task):
        module.train()
    while state.step < stop:
        seen = (state.step + 1) * options.batch
        lr = learning_rate(options, seen)
        if state.adversary is not None:
            task.playing = state.step >= begins
        losses = accumulate(task, stream, options, state.step, world)
        world.add([parameter.grad for parameter in parameters if parameter.grad is not None] + list(losses.values()))
        advance(state.optimizer, options, lr)
        if state.adversary is not None and task.playing:
            advance(state.adversary.optimizer, options, lr)
            state.adversary.steps += 1
        state.step += 1
        for name, ema in state.emas.items():
            ema.update(task.module, decay(options.averages[name], state.step, options.batch))
        state.note(losses, lr)
        if state.step % options.tick == 0 or state.step in (stop, begins):
            tick(state, options)
        after_step(state)


def contest(task: Task, options: Options) -> float:
    """The step before which the task's adversary does not play; infinity for a task without one."""
    return math.inf if len(modules(task)) == 1 else math.ceil(task.begins / options.batch)


def advance(optimizer: torch.optim.Adam, options: Options, lr: float) -> None:
    """One step of an optimiser by the gradients that lie in its parameters, which are gone then."""
    (group,) = optimizer.param_groups
    if options.clip is not None:
        nn.utils.clip_grad_norm_(group["params"], options.clip)
    group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def accumulate(task: Task, stream: Feed, options: Options, step: int, world: World) -> dict[str, Tensor]:
    """The gradients of this process's share of a step, left in the parameters, and its share of the mean losses.

    Those of an adversary's parameters come of its own loss alone, which is of the same images.

    As many images at once as a device takes; each part counts by its images, so that the sum over parts and processes
    is the gradient of the whole batch's mean.
    """
    start, stop = world.share(step * options.batch, (step + 1) * options.batch)
    part = options.device_batch or options.batch
    torch.manual_seed(torch_seed(Key(options.seed, f"dropout/{world.rank}" if world.rank else "dropout"), step))
    sums: dict[str, Tensor] = {}
    for begin in range(start, stop, part):
        batch = stream.read(begin, min(begin + part, stop))
        weight = len(batch.positions) / options.batch
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=options.bf16):
            losses = task.losses(batch, Draws(options.seed, batch.positions))
        (losses["loss"] * weight).backward()
        if "adversary" in losses:
            (losses["adversary"] * weight).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value.detach().float() * weight
    return sums


def tick(state: State, options: Options) -> None:
    """Turn the sums since the last tick into a row of the history."""
    check(state, options)
    # Sorted, since a restored state has its sums in that order: a row is the same text after a stop.
    means = {name: float(value) / state.summed for name, value in sorted(state.sums.items())}
    state.history.append({"step": state.step, "images": state.step * options.batch, "lr": state.lr, **means})
    state.sums, state.summed = {}, 0


def check(state: State, options: Options) -> None:
    """Raise DivergedError if the loss of any step so far was no number. To be called before a state is kept."""
    step = state.first_bad()
    if step is not None:
        lr = learning_rate(options, step * options.batch)
        raise DivergedError(f"the loss is nan or infinite at step {step} (learning rate {lr:g})")


def refuse_batch_statistics(module: nn.Module, options: Options, world: World) -> None:
    """Parts of a batch would have statistics of their own. Raises UserError."""
    kinds = {type(part).__name__ for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}
    if kinds and (world.size > 1 or (options.device_batch or options.batch) < options.batch):
        raise UserError(
            f"train.device_batch and train.devices: a network with {', '.join(sorted(kinds))} takes a batch whole; "
            "leave both out"
        )
