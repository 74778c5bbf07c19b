"""Training of SODA (Hudson et al. 2024, "SODA: Bottleneck Diffusion Models for Representation Learning")."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffprobe.config.names import VIEWS
from diffprobe.data.batch import Batch
from diffprobe.data.random_view import random_view
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.process import Noised, Process
from diffprobe.networks.build import build
from diffprobe.networks.compiled import compiled
from diffprobe.networks.condition import Condition
from diffprobe.networks.flops import on_meta, training_flops
from diffprobe.networks.soda import SODA
from diffprobe.runtime.devices import full_precision
from diffprobe.runtime.keyed import Draws
from diffprobe.training.data import Data
from diffprobe.training.tasks.base import ParameterGroup, Task, seed_weights

if TYPE_CHECKING:
    from diffprobe.config.tasks import soda
    from diffprobe.plan.training_argument import ExperimentArgument


class Views(NamedTuple):
    """What is drawn of a batch."""

    source: Tensor  # (B, C, H, W): what the encoder's body sees, normalised and noised
    target: Tensor  # (B, C, H, W): clean images in [-1, 1], to be noised and denoised
    seen: Tensor  # bool (B, K): which parts of its code the decoder sees


class CodedDiffusion(Task):
    """The encoder makes a code of the source view, by which the decoder learns to denoise the target view.

    A share `z_dropout` of the images hides its whole code, so that the decoder learns the unconditional term of
    classifier-free guidance too; a share `part_dropout` of the parts is hidden each on its own.
    """

    module: SODA

    def __init__(
        self,
        module: SODA,
        process: Process,
        settings: "soda.SODA",
        parts: int,
        shape: dict[str, int] | None = None,
        image_flops: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(module, shape)
        self.process, self.settings, self.parts, self.image_flops = process, settings, parts, image_flops
        self.error = self.network_error  # what is called, compiled or not
        self.identity |= {"views": VIEWS}

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        with full_precision():
            views = self.draw_views(batch.images, draws)
            noised = self.process.noised(views.target, draws)
        return {"loss": self.error(noised, views.source, views.seen)}

    def draw_views(self, images: Tensor, draws: Draws) -> Views:
        """Two views of images (B, C, H, W) in [-1, 1], independent of each other, and what of the code is seen."""
        settings, encoder = self.settings, self.module.encoder
        source = encoder.normalised(random_view(images, draws.apart("source"), settings.source))
        if settings.source.noise:
            source = source + settings.source.noise * draws.normal("source noise", tuple(images.shape[1:]))
        target = images if settings.target is None else random_view(images, draws.apart("target"), settings.target)
        whole = draws.uniform("code") >= settings.z_dropout  # (B,)
        each = draws.uniform("parts", (self.parts,)) >= settings.part_dropout  # (B, K)
        return Views(source, target, whole[:, None] & each)

    def network_error(self, noised: Noised, source: Tensor, seen: Tensor) -> Tensor:
        """The loss, a scalar."""
        z, _ = self.module.encoder.body(source)  # (B, z)
        return self.process.error(self.module.decoder, noised, Condition(z=z, z_mask=seen))

    def parameter_groups(self) -> list[ParameterGroup]:
        encoder, decoder = (list(part.parameters()) for part in (self.module.encoder, self.module.decoder))
        return [ParameterGroup(encoder, rate=self.settings.encoder_rate), ParameterGroup(decoder)]

    def compile(self, device: torch.device, images: int, how: str) -> None:
        if device.type != "cuda":
            return
        torch.set_float32_matmul_precision("high")  # TF32 for what bfloat16 leaves in float32
        # One function for both networks, so that one graph may hold them (`graphs`). The views stay as they are.
        work = images * self.image_flops() if how == "auto" else 0
        self.error = compiled(self.network_error, device, work, how)


def make(
    argument: "ExperimentArgument", data: Data, device: torch.device, say: Callable[[str], object]
) -> CodedDiffusion:
    """The task with fresh weights, as `tasks.base.Task` says. FLOPs are counted only where they are asked for."""
    shape = {"image_channels": data.shape[0], **argument.process.output_shape(data.shape[0])}
    settings: soda.SODA = argument.task  # type: ignore[assignment]  # of the kind that names this function
    seed_weights(argument.train.seed)
    module = build(argument.model, **shape)
    assert isinstance(module, SODA)
    return CodedDiffusion(
        module,
        build_process(argument.process),
        settings,
        argument.network.code_parts,
        shape,
        image_flops=lambda: training_flops(*on_meta(argument.model, data.shape, **shape)),
    )
