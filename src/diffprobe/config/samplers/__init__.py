"""Sampling settings, and samplers with one file per kind."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Batch, Images, Integer, Name, Number, Strict
from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.processes import Process


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
    weights: Name = Field("ema", description="Weights to sample from: an entry of `train.averages`, or `raw`.")
    clip: bool = Field(
        False, description="Clip estimates of the clean image to [-1, 1], as in DDPM and DDAE (pixels only)."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32",
        description="Compute precision; on a GPU, fp32 convolutions use TF32. "
        "`auto`: bf16 where the device has units for it (GPUs since Ampere, some CPUs), else fp32.",
    )

    processes: ClassVar[tuple[str, ...]] = ()
    """Kinds of compatible processes, besides those that list this sampler."""

    def suits(self, process: Process) -> bool:
        return self.kind in process.samplers or process.kind in self.processes

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        """Settings that the process does not support."""
        if not self.suits(process):
            others = [kind for kind, model in models_by_kind().items() if process.kind in model.processes]
            suitable = dict.fromkeys([*process.samplers, *others])
            yield f"{key}.kind", self.kind, f"{one_of(suitable)}, for the process {process.kind}"


class Sampling(Strict):
    """The images drawn from each checkpoint."""

    samplers: dict[Name, Sampler] = Field(min_length=1, description="Samplers by name.")
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


def models_by_kind() -> dict[str, type[Sampler]]:
    return {kind: model for kind, model in Sampler.members.items() if issubclass(model, Sampler)}


import_members(__name__, __path__)
