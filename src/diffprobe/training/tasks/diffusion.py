"""Training of a diffusion model."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffprobe.config.names import AUGMENT_LABEL, AUGMENTATION, VIEW_LABEL
from diffprobe.data import augment
from diffprobe.data.batch import Batch
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.process import Network, Noised, Process
from diffprobe.networks.build import build
from diffprobe.networks.compiled import compiled, compiled_draws, is_worthwhile
from diffprobe.networks.condition import Condition
from diffprobe.networks.flops import on_meta, training_flops
from diffprobe.runtime.devices import full_precision
from diffprobe.runtime.keyed import Draws
from diffprobe.training.data import Data
from diffprobe.training.tasks.base import Task, View, seed_weights

if TYPE_CHECKING:
    from diffprobe.plan.training_argument import ExperimentArgument, TrainSettings


class Diffusion(Task):
    """A network learns to denoise. Of a conditional one a share `label_dropout` of the labels is hidden, so that it
    learns both terms of classifier-free guidance (Ho & Salimans 2022, algorithm 1).

    `view` augments images (B, C, H, W). `network`, `inputs` and `error` are what is called, compiled or not;
    `image_flops` are those of training on one image.
    """

    def __init__(
        self,
        module: nn.Module,
        process: Process,
        label_dropout: float = 0.0,
        view: View | None = None,
        shape: dict[str, int] | None = None,
        image_flops: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(module, shape)
        self.network: Network = module
        self.process, self.label_dropout, self.view, self.image_flops = process, label_dropout, view, image_flops
        self.inputs, self.error = self.draw_inputs, self.network_error
        # Not where a plugin's process has a loss of its own, which draws within.
        self.draws_first = getattr(type(process), "loss", None) is Process.loss

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        with full_precision():  # TF32 would be visible in a warped image
            if self.draws_first:
                noised, cond = self.inputs(batch, draws)
            else:
                images, cond = self.view_and_condition(batch, draws)
        if self.draws_first:
            return {"loss": self.error(noised, cond)}
        return {"loss": self.process.loss(self.network, images, draws, cond)}

    def draw_inputs(self, batch: Batch, draws: Draws) -> tuple[Noised, Condition]:
        """All random draws of a batch, and what they do to it."""
        images, cond = self.view_and_condition(batch, draws)
        return self.process.noised(images, draws), cond

    def network_error(self, noised: Noised, cond: Condition) -> Tensor:
        """The loss, a scalar."""
        return self.process.error(self.network, noised, cond)

    def view_and_condition(self, batch: Batch, draws: Draws) -> tuple[Tensor, Condition]:
        # A latent's view was drawn when it was encoded: its label comes with the batch.
        images, augmented = self.view(batch.images, draws) if self.view else (batch.images, batch.augment)
        labels = batch.labels
        if self.label_dropout:
            labels = labels.masked_fill(draws.uniform("label") < self.label_dropout, -1)  # (B,)
        return images, Condition(label=labels, augment=augmented)

    def compile(self, device: torch.device, images: int, how: str) -> None:
        if device.type != "cuda":
            return
        torch.set_float32_matmul_precision("high")  # TF32 for what bfloat16 leaves in float32
        work = images * self.image_flops() if how == "auto" else 0
        if not self.draws_first:
            self.network = compiled(self.module, device, work, how)
        elif is_worthwhile(device, work, how):
            # In two parts: the draws alone are a few kernels of arithmetic, whatever the network.
            self.inputs, self.error = compiled_draws(self.draw_inputs), compiled(self.network_error, device, work, how)


def make(argument: "ExperimentArgument", data: Data, device: torch.device, say: Callable[[str], object]) -> Diffusion:
    """The task with fresh weights, as `tasks.base.Task` says."""
    shape = network_shape(argument, data)
    seed_weights(argument.train.seed)
    # FLOPs are counted only where compiling is considered: it takes a second.
    task = Diffusion(
        build(argument.network, **shape),
        build_process(argument.process),
        getattr(argument.network, "label_dropout", 0.0) if "classes" in shape else 0.0,  # nothing to hide
        view(argument.train),
        shape,
        image_flops=lambda: training_flops(*on_meta(argument.network, data.shape, **shape)),
    )
    if argument.train.augment:
        # A run that began with an older version, which had no entry, must not go on with other images.
        task.identity |= {"augmentation": AUGMENTATION}
    return task


def network_shape(argument: "ExperimentArgument", data: Data) -> dict[str, int]:
    """What of the network follows from the data; no entry for what it is not conditioned on."""
    conditional = getattr(argument.network, "conditional", False)
    counts = {"classes": data.classes if conditional else 0, "augment": augment_length(argument, data)}
    if getattr(argument.process, "learns_variance", False):
        counts["out_channels"] = 2 * data.shape[0]
    return {"image_channels": data.shape[0], **{name: count for name, count in counts.items() if count}}


def augment_length(argument: "ExperimentArgument", data: Data) -> int:
    """The length of the augmentation label that the network is conditioned on; 0 without one."""
    if not getattr(argument.network, "augment", False):
        return 0
    if data.latents:
        # Peers' latents are imported with one view, or with views that carry no label.
        return VIEW_LABEL if len(data.latents.views["train"]) > 1 and not data.imported else 0
    return AUGMENT_LABEL if argument.train.augment else 0


def view(train: "TrainSettings") -> View | None:
    """What is done to training images in pixels; None for latents and for images as they are."""
    if train.augment:
        return partial(augment.edm, p=train.augment.p)
    return (lambda x, draws: (augment.random_flip(x, draws), None)) if train.flip else None
