"""Sampling settings, and samplers with one file per kind."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Batch, Images, Integer, Name, NotNegative, Number, Positive, Strict
from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.processes import Process

NotNegativeNumber = Annotated[Number, Field(ge=0)]


class Sampler(Kind, family=True):
    """A sampler. `build` names a function that takes a trajectory, a start state and these settings (see
    `diffusion.samplers`).
    """

    guidance: Number = Field(
        1.0,
        ge=0,
        description="Scale of classifier-free guidance for a conditional network. 0: unconditional, 1: conditional "
        "without guidance; other values double the network evaluations.",
    )
    guidance_channels: Annotated[Literal["all"] | Positive, LATER] = Field(
        "all",
        description="Channels with guidance: all, or the first so many; the others are conditional. DiT: 3 of 4.",
    )
    guidance_interval: Annotated[list[NotNegativeNumber | None] | None, LATER] = Field(
        None,
        min_length=2,
        max_length=2,
        description="Lowest and highest noise level, in sigma/alpha, with guidance; null: no such bound. Levels beyond "
        "are conditional and cost one evaluation (Kynkäänniemi et al. 2024). For `flow` sigma/alpha is t / (1 - t): "
        "REPA's t up to 0.7 is [0, 2.3333334].",
    )
    labels: Annotated[Literal["balanced", "random"] | list[NotNegative], LATER] = Field(
        "balanced",
        description="Labels for a conditional network: image i has the label i modulo the number of classes "
        "(`balanced`), one of them at random (`random`, as in DiT's evaluation), or the next of a list, which repeats.",
    )
    weights: Name = Field("ema", description="Weights to sample from: an entry of `train.averages`, or `raw`.")
    clip: bool = Field(
        False, description="Clip estimates of the clean image to [-1, 1], as in DDPM and DDAE (pixels only)."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32",
        description="Compute precision; on a GPU, fp32 convolutions use TF32. "
        "`auto`: bf16 where it pays (GPUs since Ampere; CPUs with units for it, if layers are wide), else fp32.",
    )

    processes: ClassVar[tuple[str, ...]] = ()
    """Kinds of compatible processes, besides those that list this sampler."""

    def suits(self, process: Process) -> bool:
        return self.kind in process.samplers or process.kind in self.processes

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        """Settings that the process does not support, or that contradict each other."""
        for name, idle in (("guidance_channels", "all"), ("guidance_interval", None)):
            if self.guidance in (0, 1) and getattr(self, name) != idle:
                allowed = f"{idle or 'null'}, since nothing is guided at guidance {self.guidance:g}"
                yield f"{key}.{name}", getattr(self, name), allowed
        low, high = self.guidance_interval or (None, None)
        if low is not None and high is not None and low >= high:
            yield f"{key}.guidance_interval", self.guidance_interval, "the lower level first"
        if self.labels == []:
            yield f"{key}.labels", [], "balanced, random, or at least one label"
        if not self.suits(process):
            others = [kind for kind, model in models_by_kind().items() if process.kind in model.processes]
            suitable = dict.fromkeys([*process.samplers, *others])
            yield f"{key}.kind", self.kind, f"{one_of(suitable)}, for the process {process.kind}"
            return
        for name in sorted(self.idle(process)):
            if getattr(self, name) != (default := type(self).model_fields[name].default):
                yield f"{key}.{name}", getattr(self, name), f"{default:g}, since {process.kind} has no such schedule"

    def idle(self, process: Process) -> set[str]:
        """Settings of noise levels that only other processes have."""
        every = {name for each in Process.members.values() if issubclass(each, Process) for name in each.schedule}
        return (every & type(self).model_fields.keys()) - set(process.schedule)


class Sampling(Strict):
    """The images drawn from each checkpoint."""

    samplers: dict[Name, Sampler] = Field({}, description="Samplers by name, at least one unless the task classifies.")
    images: Images = Field(
        50_000, description="Images per sampler and checkpoint. Image i depends only on the seed and i."
    )
    keep_samples: Images | Literal["all"] = Field(
        "all",
        description="Images to store: `all`, or the first N for the sample grids. With N, one job draws and measures "
        "all images without storing the rest, so further metrics require sampling again.",
    )
    batch: Batch = Field(256, description="Images per batch (at most 256 for stored images). Changes no image.")
    seed: Integer = Field(0, description="Seed for the initial noise and the noise of each step.")
    strip_stride: Annotated[Positive | None, LATER] = Field(
        None,
        description="Steps from one frame of the denoising strip to the next. The strip then also shows the noisy "
        "images x_t, decoded, below the estimates of the clean ones; null: estimates alone, at most 40 frames.",
    )


def models_by_kind() -> dict[str, type[Sampler]]:
    return {kind: model for kind, model in Sampler.members.items() if issubclass(model, Sampler)}


import_members(__name__, __path__)
