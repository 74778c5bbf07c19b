"""Optimisers, the learning rate over a run, and what of an optimiser must be kept to go on bit for bit.

A new optimiser is a line of OPTIMIZERS and a choice of `train.optimizer` (config/training.py); a new setting of it is a
key marked LATER there, so that nobody's runs are trained again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn, optim

from diffprobe.runtime.devices import is_bf16
from diffprobe.training.muon import Muon
from diffprobe.training.tasks.base import ParameterGroup

if TYPE_CHECKING:
    from diffprobe.config.training import Average
    from diffprobe.plan.training_argument import TrainSettings

RATE = "rate"  # key of an optimiser's parameter group: its factor on the learning rate


@dataclass(frozen=True)
class Options:
    """How to train, whatever the task; counts in images. `bf16` changes only rounding, and `device_batch` that and
    the masks of dropout.
    """

    batch: int
    lr: float
    seed: int = 0
    optimizer: str = "adamw"  # a key of OPTIMIZERS
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam
    momentum: float = 0.9  # of SGD and Muon
    weight_decay: float = 0.0
    warmup: float = 0.0  # images over which the rate rises
    cosine: float | None = None  # images after which it has fallen to 0
    averages: "dict[str, Average]" = field(default_factory=dict)  # see `ema.decay`
    clip: float | None = None  # bound on the norm of all gradients together
    bf16: bool = False
    device_batch: int | None = None  # images that a device takes at once; None: its whole share

    @classmethod
    def of(
        cls, train: "TrainSettings", device: torch.device, network: nn.Module, device_batch: int | None = None
    ) -> "Options":
        """From the `train` of a job's argument, for a network."""
        return cls(
            batch=train.batch,
            lr=train.lr,
            seed=train.seed,
            optimizer=train.optimizer,
            betas=(train.beta1, train.beta2),
            momentum=train.momentum,
            weight_decay=train.weight_decay,
            warmup=1000 * train.warmup_kimg,
            cosine=train.cosine_kimg and 1000 * train.cosine_kimg,
            averages=dict(train.averages),
            clip=train.clip,
            bf16=is_bf16(train.precision, device, network),
            device_batch=device_batch,
        )

    @property
    def tick(self) -> int:
        """Steps between two rows of the history: about a thousand images."""
        return max(1, round(1000 / self.batch))


Groups = list[dict[str, Any]]  # torch's parameter groups
# Fused: one kernel for all parameters, where a loop over hundreds of small tensors would keep a GPU waiting.
# Not SGD: its fused kernel fails where some parameters have had no gradient yet.
OPTIMIZERS: dict[str, Callable[[Groups, Options], optim.Optimizer]] = {
    "adam": lambda groups, options: optim.Adam(groups, options.lr, options.betas, fused=True),
    "adamw": lambda groups, options: optim.AdamW(groups, options.lr, options.betas, fused=True),
    "muon": lambda groups, options: Muon(groups, options.lr, options.betas, options.momentum, options.bf16),
    "sgd": lambda groups, options: optim.SGD(groups, options.lr, options.momentum),
}


def optimizer(groups: Sequence[ParameterGroup], options: Options) -> optim.Optimizer:
    """A fresh optimiser of these parameters."""
    own = [
        {
            "params": group.parameters,
            RATE: group.rate,
            "weight_decay": options.weight_decay if group.weight_decay is None else group.weight_decay,
        }
        for group in groups
    ]
    return OPTIMIZERS[options.optimizer](own, options)


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


def advance(optimizer: optim.Optimizer, options: Options, lr: float) -> None:
    """One step of an optimiser by the gradients that lie in its parameters, which are gone then."""
    if options.clip is not None:  # one norm of all groups together
        clip([parameter for group in optimizer.param_groups for parameter in group["params"]], options.clip)
    for group in optimizer.param_groups:
        group["lr"] = lr * group[RATE]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # None and not 0: the next backward pass writes instead of adding


def clip(parameters: Sequence[nn.Parameter], bound: float) -> None:
    """`nn.utils.clip_grad_norm_`, but that a CPU passes over gradients within the bound instead of times one."""
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    # A GPU would have to be waited for.
    if norm.device.type != "cpu" or not bool(bound / (norm + 1e-6) >= 1):
        nn.utils.clip_grads_with_norm_(parameters, bound, norm)


def kept(module: nn.Module, optimizer: optim.Optimizer, steps: int) -> dict[str, Tensor]:
    """An optimiser's state after so many steps by `KEY.PARAMETER`, such as `exp_avg.stem.weight`.

    Adam's own count of steps is left out where it is the run's; a parameter that had no gradient at some has fewer.
    """
    tensors = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is None:  # SGD without momentum
                continue
            if not (key == "step" and isinstance(optimizer, optim.Adam) and float(value) == steps):
                tensors[f"{key}.{name}"] = torch.as_tensor(value)
    return tensors


def take(module: nn.Module, optimizer: optim.Optimizer, steps: int, moments: dict[str, dict[str, Tensor]]) -> None:
    """Take over what `kept` returned after so many steps, grouped by key, into a fresh optimiser."""
    for name, parameter in module.named_parameters():
        state = {key: placed(values[name], parameter) for key, values in moments.items() if name in values}
        if state and isinstance(optimizer, optim.Adam):
            # On the parameter's device, where the fused kernel reads it.
            state.setdefault("step", torch.tensor(float(steps), device=parameter.device))
        if state:
            optimizer.state[parameter] = state


def placed(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """On the parameter's device; in its memory format too where it has its shape, as the optimiser itself makes it."""
    if value.shape == parameter.shape:
        return torch.zeros_like(parameter, dtype=value.dtype).copy_(value)
    return value.to(parameter.device)
