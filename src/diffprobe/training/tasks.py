"""Tasks: what a training run trains. The loop owns everything else."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.diffusion.edm import EDM
from diffprobe.runtime.keyed import Draws
from diffprobe.training.stream import Batch


class Task(Protocol):
    """One module, trained on the entry `loss` of `losses`; other entries are only logged."""

    module: nn.Module

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]: ...


class Diffusion:
    """A network learns to denoise."""

    def __init__(self, network: nn.Module, process: EDM) -> None:
        self.module, self.process = network, process

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        return {"loss": self.process.loss(self.module, batch.images, draws)}


class Classification:
    """A classifier learns labels by cross-entropy."""

    def __init__(self, network: nn.Module) -> None:
        self.module = network

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        logits = self.module(batch.images)  # (B, classes)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": accuracy}
