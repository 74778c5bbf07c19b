"""Training of a classifier of noisy images, at the noise levels on which a process trains."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprobe.data.batch import Batch
from diffprobe.data.views import crop
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.process import Process
from diffprobe.networks.build import build
from diffprobe.networks.flops import on_meta, training_flops
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws
from diffprobe.training.data import Data
from diffprobe.training.tasks.base import Task, seed_weights

if TYPE_CHECKING:
    from diffprobe.config.views import Crop
    from diffprobe.plan.training_argument import ExperimentArgument


class NoiseClassification(Task):
    """A network learns the labels of noisy images by cross-entropy. `crop` augments images (B, C, H, W) in [-1, 1]."""

    def __init__(
        self, module: nn.Module, process: Process, crop: "Crop | None" = None, shape: dict[str, int] | None = None
    ) -> None:
        super().__init__(module, shape)
        self.process, self.crop = process, crop

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        images = random_crop(batch.images, draws, self.crop) if self.crop else batch.images
        noised = self.process.noised(images, draws)
        logits, _ = self.module(self.process.scaled(noised.noisy, noised.level), noised.level.c_noise)  # (B, K)
        # Only logged; of the training images, as it comes for free.
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": accuracy}


def random_crop(x: Tensor, draws: Draws, by: "Crop") -> Tensor:
    """Images (B, C, H, W) in [-1, 1], flipped at random and cut from their padded selves; 0 pads with black."""
    down, right, coin = draws.uniforms("crop", 3)  # (B,) each
    shift = (torch.stack([down, right], dim=1) * (2 * by.pad + 1)).long() - by.pad  # (B, 2)
    levels = (x + 1).movedim(1, 3)  # (B, H, W, C), where black is 0
    return crop(levels, shift, (coin < 0.5) & by.flip, by.fill).movedim(3, 1) - 1


def make(
    argument: "ExperimentArgument", data: Data, device: torch.device, say: Callable[[str], object]
) -> NoiseClassification:
    if not data.classes:
        raise UserError("task noise_classification: the dataset has no labels")
    shape = {"image_channels": data.shape[0], "classes": data.classes}
    seed_weights(argument.train.seed)
    process = build_process(argument.process)
    task = NoiseClassification(build(argument.network, **shape), process, getattr(argument.task, "crop", None), shape)
    task.image_flops = lambda: training_flops(*on_meta(argument.network, data.shape, **shape))
    return task
