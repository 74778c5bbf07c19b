"""What is drawn, and by which samplers: a file a kind."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Name, Number, Positive, Strict
from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.problems import Problem, one_of
from diffprobe.config.processes import Process


class Sampler(Kind, family=True):
    """What all samplers have. `build` names a function of a trajectory, a start state and these settings (see
    `diffusion.samplers`).
    """

    guidance: Number = Field(
        1.0,
        ge=0,
        description="Classifier-free guidance of a conditional network: 0 ignores the label, 1 follows it, more "
        "exaggerates it (at twice the evaluations).",
    )
    weights: Name = Field("ema", description="Which of `train.averages` draws, or `raw`.")
    clip: bool = Field(False, description="Estimates of the image are held within [-1, 1] (DDPM, DDAE; in pixels).")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of the network's arithmetic; on a GPU convolutions of fp32 multiply in TF32."
    )

    processes: ClassVar[tuple[str, ...]] = ()
    """The kinds of processes that it suits, besides those that name it."""

    def suits(self, process: Process) -> bool:
        return self.kind in process.samplers or process.kind in self.processes

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        """Settings that the process does not have."""
        if not self.suits(process):
            others = [kind for kind, model in models_by_kind().items() if process.kind in model.processes]
            suitable = dict.fromkeys([*process.samplers, *others])
            yield f"{key}.kind", self.kind, f"{one_of(suitable)}, for the process {process.kind}"


class Sampling(Strict):
    """What is drawn from each checkpoint."""

    samplers: dict[Name, Sampler] = Field(min_length=1, description="Samplers by name.")
    images: Positive = Field(
        50_000, description="Images per sampler and checkpoint; image i depends on the seed and i alone."
    )
    keep_samples: Positive | Literal["all"] = Field(
        "all",
        description="Images that are written: `all`, or the first so many, for the grids. With a number all are drawn, "
        "decoded and measured in one job, and the others are never written, so that other figures mean drawing anew.",
    )
    batch: Positive = Field(256, description="Images per batch (256 at most of those that are kept); changes no image.")
    seed: Integer = Field(0, description="Seed of the start noise and of the steps' noise.")


def models_by_kind() -> dict[str, type[Sampler]]:
    return {kind: model for kind, model in Sampler.members.items() if issubclass(model, Sampler)}


import_members(__name__, __path__)
