"""Tasks: what a training run trains. The loop owns everything else."""

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.data.batch import Batch
from diffprobe.diffusion.process import Process
from diffprobe.networks.autoencoder import Codec, posterior
from diffprobe.networks.condition import Condition
from diffprobe.runtime.keyed import Draws


class Task(Protocol):
    """One module, trained on the entry `loss` of `losses`; other entries are only logged."""

    module: nn.Module

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]: ...


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


class Autoencoding:
    """An autoencoder learns to give images back: mean squared error, plus `kl_weight` times the KL divergence of its
    posterior to the normal distribution, in nats per image (Kingma & Welling 2014, eq. 10; Rombach et al. 2022).
    """

    def __init__(self, codec: Codec, kl_weight: float) -> None:
        self.module, self.codec, self.kl_weight = codec.network, codec, kl_weight

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        x = self.codec.fitted(batch.images)  # (B, C, S, S)
        moments = self.codec.moments(batch.images)  # (B, 2c, h, w)
        mean, logvar = moments.chunk(2, dim=1)
        noise = draws.normal("posterior", tuple(mean.shape[1:]))
        mse = (self.codec.decode(posterior(moments, noise)) - x).square().mean()
        kl = (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1).mean() / 2
        return {"loss": mse + self.kl_weight * kl, "mse": mse, "kl": kl}


class Classification:
    """A classifier learns labels by cross-entropy."""

    def __init__(self, network: nn.Module) -> None:
        self.module = network

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        logits = self.module(batch.images)  # (B, classes)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": accuracy}
