"""The one training loop: images as clock, keyed draws, no synchronisation within a tick."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffprobe.data.batch import Feed
from diffprobe.runtime.ahead import Ahead
from diffprobe.runtime.devices import memory_format
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, torch_seed
from diffprobe.training.batch_norm import batch_norms, share_batch_norms
from diffprobe.training.ema import EMA, decay
from diffprobe.training.optimizers import Options, advance, learning_rate, optimizer
from diffprobe.training.state import Adversary, State
from diffprobe.training.tasks.base import ParameterGroup, Task
from diffprobe.training.world import World


class DivergedError(UserError):
    """The loss is NaN or infinite."""


def prepare(task: Task, device: torch.device, options: Options, world: World) -> None:
    """Move a task's modules to the device. Raises UserError where one cannot be trained with these options."""
    for module in task.modules:
        module.to(device).to(memory_format=memory_format(device))
        # How a batch is divided must change only rounding: its statistics are of the whole.
        refuse_batch_statistics(module, options, world)
        share_batch_norms(module, world)


def fresh(task: Task, options: Options) -> State:
    """The state of a run that has seen no image."""
    emas = {name: EMA(task.module) for name in options.averages}  # of the module alone: an adversary draws nothing
    adversary = None
    if task.adversary is not None:
        own = optimizer([ParameterGroup(list(task.adversary.parameters()))], options)
        adversary = Adversary(task.adversary, own)
    return State(task.module, emas, optimizer(task.parameter_groups(), options), adversary=adversary)


def train(
    task: Task,
    stream: Feed,
    options: Options,
    state: State,
    stop: int,
    after_step: Callable[[State], None],
    world: World | None = None,
) -> None:
    """Train the state from its step to step `stop`, in place. Raises DivergedError when a loss is NaN or infinite."""
    world = world or World()
    parameters = [parameter for module in task.modules for parameter in module.parameters()]
    first_played, ahead = adversary_step(task, options), Ahead(options.seed)
    for module in task.modules:
        module.train()
    while state.step < stop:
        lr = learning_rate(options, (state.step + 1) * options.batch)
        task.adversary_plays = state.step >= first_played
        losses = accumulate(task, stream, options, state.step, world, ahead)
        if world.size > 1:
            # Gradients and losses in one message: a small message takes as long as a large one.
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            world.add([*gradients, *losses.values()])
        # Both steps are by gradients at the same weights: neither module is updated before both losses are computed.
        advance(state.optimizer, options, lr)
        if state.adversary is not None and task.adversary_plays:
            advance(state.adversary.optimizer, options, lr)
            state.adversary.steps += 1
        state.step += 1
        for name, ema in state.emas.items():
            ema.update(decay(options.averages[name], state.step, options.batch))
        state.note(losses, lr)
        # A row of the history ends where the adversary begins, so that no row mixes steps with and without it.
        if state.step % options.tick == 0 or state.step in (stop, first_played):
            tick(state, options)
        after_step(state)


def adversary_step(task: Task, options: Options) -> float:
    """The step before which the task's adversary does not play; infinity for a task without one."""
    return math.inf if task.adversary is None else math.ceil(task.adversary_begins / options.batch)


def accumulate(
    task: Task, stream: Feed, options: Options, step: int, world: World, ahead: Ahead | None = None
) -> dict[str, Tensor]:
    """The gradients of this process's share of a step, left in the parameters, and its share of the mean losses.

    A share is computed in parts of `device_batch` images. Each part is weighted by its images, so that the sum over
    parts and processes is the gradient of the whole batch's mean.
    """
    # Batches run across the borders of epochs and are always full, so no slice or epoch ends with a smaller one.
    start, stop = world.share(step * options.batch, (step + 1) * options.batch)
    part = options.device_batch or options.batch
    # Dropout cannot take explicit draws: its generator is seeded by the step, so that a resumed run has the same masks.
    seed_dropout(torch_seed(Key(options.seed, f"dropout/{world.rank}" if world.rank else "dropout"), step))
    ahead = ahead or Ahead(options.seed)
    sums: dict[str, Tensor] = {}
    for begin in range(start, stop, part):
        batch = stream.read(begin, min(begin + part, stop))
        weight = len(batch.positions) / options.batch  # of the whole batch: shares and parts then add up to its mean
        # Weights stay float32. bfloat16 has float32's range, so that losses need no scaling.
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=options.bf16):
            losses = task.losses(batch, ahead.draws(begin, batch.positions))
        (losses["loss"] * weight).backward()
        if "adversary" in losses:
            (losses["adversary"] * weight).backward()  # reaches the adversary alone (`Task.losses`)
        for name, value in losses.items():
            share = value.detach().float() * weight  # on the device, in memory that no later step writes to
            sums[name] = sums[name] + share if name in sums else share
    return sums


def seed_dropout(seed: int) -> None:
    """As `torch.manual_seed`, which formats a stack for each call on a machine without a GPU."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def tick(state: State, options: Options) -> None:
    """Turn the losses since the last tick into a row of the history; waits for the device."""
    check_finite(state, options)
    # Sorted, since a restored state has its sums in that order: a row is the same text after a stop.
    means = {name: value / state.summed for name, value in sorted(state.sums.items())}
    state.history.append({"step": state.step, "images": state.step * options.batch, "lr": state.lr, **means})
    state.sums, state.summed = {}, 0


def check_finite(state: State, options: Options) -> None:
    """Raise DivergedError if the loss of any step so far was NaN or infinite. Call it before a state is kept."""
    state.settle()
    if state.bad is not None:
        lr = learning_rate(options, state.bad * options.batch)
        raise DivergedError(f"the loss is nan or infinite at step {state.bad} (learning rate {lr:g})")


def refuse_batch_statistics(module: nn.Module, options: Options, world: World) -> None:
    """Raise UserError where a module with batch norms would see a process's share of a batch in parts."""
    kinds = sorted({type(norm).__name__ for norm in batch_norms(module)})
    share = math.ceil(options.batch / world.size)
    if kinds and (options.device_batch or share) < share:
        raise UserError(
            f"train.device_batch: a network with {', '.join(kinds)} takes a device's share of a batch whole; leave it "
            f"out, or use {share}"
        )
