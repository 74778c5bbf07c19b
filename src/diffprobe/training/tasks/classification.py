"""Training of the classifier that the extractor `classifier` takes its features from."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.data.batch import Batch
from diffprobe.networks.build import build
from diffprobe.runtime.keyed import Draws
from diffprobe.training.data import Data
from diffprobe.training.tasks.base import Task, seed_weights

if TYPE_CHECKING:
    from diffprobe.plan.training_argument import ClassificationArgument


class Classification(Task):
    """A classifier learns labels by cross-entropy."""

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        logits = self.module(batch.images)  # (B, classes)
        # Only logged; of the training images, as it comes for free.
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": F.cross_entropy(logits, batch.labels), "accuracy": accuracy}


def make(
    argument: "ClassificationArgument", data: Data, device: torch.device, say: Callable[[str], object]
) -> Classification:
    shape = {"image_channels": data.shape[0], **({"classes": data.classes} if data.classes else {})}
    seed_weights(argument.train.seed)
    return Classification(build(argument.network, **shape), shape)
