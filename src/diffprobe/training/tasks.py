"""Tasks: what a training run trains. The loop owns everything else."""

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.data.batch import Batch
from diffprobe.diffusion.process import Process
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Draws


class Task(Protocol):
    """One module, trained on the entry `loss` of `losses`; other entries are only logged."""

    module: nn.Module

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]: ...


class Contest(Task, Protocol):
    """A task whose module another one is trained against, at the same time and on its own loss.

    From `begins` images on the loop sets `playing`; then `losses` has an entry `adversary` too. Its gradients reach the
    adversary alone, and those of `loss` never do.
    """

    adversary: nn.Module | None
    begins: float
    playing: bool


def modules(task: Task) -> list[nn.Module]:
    """What a task trains: its module, then its adversary where it has one."""
    adversary = getattr(task, "adversary", None)
    return [task.module] if adversary is None else [task.module, adversary]


View = Callable[[Tensor, Draws], tuple[Tensor, Tensor | None]]  # images to what is seen of them, and what was done


class Diffusion:
    """A network learns to denoise; if it is told labels, a share `label_dropout` of them is hidden.

    `view` augments images (B, C, H, W) and tells what it did. `network` is what is called: the module, or a compiled
    form of it.
    """

    def __init__(
        self, module: nn.Module, process: Process, label_dropout: float = 0.0, view: View | None = None
    ) -> None:
        self.module, self.network, self.process = module, module, process
        self.label_dropout, self.view = label_dropout, view

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        images, augment = self.view(batch.images, draws) if self.view else (batch.images, batch.augment)
        return {"loss": self.process.loss(self.network, images, draws, self.condition(batch, augment, draws))}

    def condition(self, batch: Batch, augment: Tensor | None, draws: Draws) -> Condition:
        hidden = draws.uniform("label") < self.label_dropout  # (B,)
        return Condition(label=batch.labels.masked_fill(hidden, -1), augment=augment)


class Classification:
    """A classifier learns labels by cross-entropy."""

    def __init__(self, network: nn.Module) -> None:
        self.module = network

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        logits = self.module(batch.images)  # (B, classes)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": accuracy}
