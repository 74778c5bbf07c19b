"""Fine-tuning: a pretrained network up to one tap, and a linear classifier, learn labels at the rates of their depth.

Blocks nearer the input learn more slowly, by `layer_decay` a block (Clark et al., ELECTRA, 2020, appendix A; Bao et
al., BEiT, 2022, appendix H).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprobe.data.batch import Batch
from diffprobe.data.mixup import Mixed, mixup
from diffprobe.data.random_view import random_view
from diffprobe.data.views import padded_crop
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.finetuned import FineTuned, Sight
from diffprobe.diffusion.levels import CLEAN
from diffprobe.networks.build import build
from diffprobe.networks.compiled import compiled
from diffprobe.networks.depths import parameters_by_block
from diffprobe.networks.pooling import POOLINGS
from diffprobe.runtime.devices import full_precision
from diffprobe.runtime.files import sha256
from diffprobe.runtime.keyed import Draws
from diffprobe.training import checkpoints
from diffprobe.training.data import Data
from diffprobe.training.tasks.base import ParameterGroup, Task, View, seed_weights

if TYPE_CHECKING:
    from diffprobe.plan.training_argument import FineTuningArgument


class FineTuning(Task):
    """A classifier learns labels by cross-entropy. `blocks` are the names of the parameters by block, from the input
    on; parameters in none are not trained.
    """

    module: FineTuned

    def __init__(
        self,
        module: FineTuned,
        sight: Sight,
        blocks: Sequence[Sequence[str]],
        layer_decay: float = 1.0,
        view: View | None = None,
        mixup: float | None = None,
        shape: dict[str, int] | None = None,
    ) -> None:
        super().__init__(module, shape)
        self.sight, self.blocks, self.layer_decay = sight, blocks, layer_decay
        self.view, self.mixup = view, mixup
        self.described: dict[str, Any] = {}
        self.logits = self.network_logits  # what is called, compiled or not
        trained = {f"model.{name}" for block in blocks for name in block}
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name.startswith("head.") or name in trained)

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        with full_precision():
            images = self.view(batch.images, draws)[0] if self.view else batch.images
            mixed = mixup(images, batch.labels, draws, self.mixup) if self.mixup else Mixed.of(images, batch.labels)
            noise = draws.normal("noise", tuple(images.shape[1:])) if self.sight.draws else None
        logits = self.logits(mixed.images, noise, batch.augment)
        own, other = (F.cross_entropy(logits, y, reduction="none") for y in (mixed.labels, mixed.others))
        loss = (mixed.share * own + (1 - mixed.share) * other).mean()
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()  # only logged; of the training images
        return {"loss": loss, "accuracy": accuracy}

    def network_logits(self, x: Tensor, noise: Tensor | None, augment: Tensor | None) -> Tensor:
        return self.sight.logits(self.module, x, noise, augment)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The classifier at the run's rate, and each block at its own; vectors, as biases and norms, do not decay."""
        parameters, depth = dict(self.module.named_parameters()), len(self.blocks)
        groups = [([name for name in parameters if name.startswith("head.")], 1.0)]
        for i, block in enumerate(self.blocks):
            groups.append(([f"model.{name}" for name in block], self.layer_decay ** (depth - i)))
        return [
            ParameterGroup(members, rate, weight_decay)
            for names, rate in groups
            for vectors, weight_decay in ((False, None), (True, 0.0))
            if (members := [parameters[name] for name in names if (parameters[name].ndim < 2) == vectors])
        ]

    def header(self) -> dict[str, Any]:
        return self.described

    def compile(self, device: torch.device, images: int, how: str) -> None:
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 for what bfloat16 leaves in float32
            self.logits = compiled(self.network_logits, device, 0, how)


def make(argument: "FineTuningArgument", data: Data, device: torch.device, say: Callable[[str], object]) -> FineTuning:
    """The pretrained network up to its tap and a new head, both trainable."""
    settings = argument.evaluator
    weights = data.files[f"weights.{argument.checkpoints.index(argument.kimg)}"]
    pretrained, header = checkpoints.load(weights, torch.device("cpu"), lambda _: argument.model, argument.weights)
    sight = sight_of(argument)
    blocks, width = outline(argument, header["shape"], data.shape, sight)
    shape = {"width": width, "classes": data.classes}
    seed_weights(argument.train.seed)
    network = argument.finetuned(header["shape"])
    module = build(network, **shape)
    assert isinstance(module, FineTuned)
    if settings.start == "checkpoint":
        module.model.load_state_dict(pretrained.state_dict())
    task = FineTuning(module, sight, blocks, settings.layer_decay, view(argument), settings.mixup, shape)
    task.described = {"network": network.model_dump(mode="json"), "sight": sight.described}
    # A run that began with another cell, checkpoint or learning rate is not continued with these.
    task.identity |= {"cell": f"{argument.tap} {argument.sigma:g}", "lr": f"{argument.train.lr:g}"}
    task.identity |= {"weights": sha256(weights)}
    return task


def sight_of(argument: "FineTuningArgument") -> Sight:
    """At the cell's level; without noise at the process's lowest. A tap that sees images as they are has no level."""
    process, noisy = build_process(argument.process), argument.evaluator.input == "noisy"
    if not argument.sigma:
        return Sight(process, CLEAN, False, argument.label, argument.zeroed)
    level = process.level(argument.sigma if noisy else argument.lowest)
    encoded = bool(argument.clean_taps) and argument.code == "encoded"
    return Sight(process, level, noisy, argument.label, argument.zeroed, encoded)


def outline(
    argument: "FineTuningArgument", shape: dict[str, int], image: tuple[int, int, int], sight: Sight
) -> tuple[list[list[str]], int]:
    """The parameters of the model by block, up to the tap, and the length of the pooled activation.

    By a pass of one image (C, H, W) on the meta device, which costs no arithmetic.
    """
    with torch.device("meta"):
        model = build(argument.model, **shape).eval()  # batch norms need a batch otherwise
        x = torch.zeros(1, *image)
        augment = torch.zeros(1, shape["augment"]) if shape.get("augment") else None
        blocks: list[str] = getattr(model, "taps")  # noqa: B009
        order: list[str] = getattr(model, "named_taps", blocks)
        unseen = argument.clean_taps if sight.level.sigma and not sight.encoded else []
        before = [tap for tap in order[: order.index(argument.tap)] if tap in blocks and tap not in unseen]
        taps = [*before, argument.tap]
        computed = sight.activations(model, x, None, taps, augment)
        width = POOLINGS[argument.pooling](computed[argument.tap]).shape[1]
        return parameters_by_block(model, computed, taps), width


def view(argument: "FineTuningArgument") -> View | None:
    """What is done to training images in pixels: padded crop and flip, then RandAugment."""
    crop, randaugment = argument.evaluator.crop, argument.random_view
    if crop is None and randaugment is None:
        return None

    def augmented(x: Tensor, draws: Draws) -> tuple[Tensor, None]:
        x = padded_crop(x, draws, crop) if crop else x
        return random_view(x, draws, randaugment) if randaugment else x, None

    return augmented
