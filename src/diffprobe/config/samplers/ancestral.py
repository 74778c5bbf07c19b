"""DDPM's ancestral sampler."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers.spaced import SpacedSampler


class Ancestral(SpacedSampler):
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for the processes `ddpm` and `iddpm`."""

    kind: Literal["ddpm"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:ancestral"

    variance: Literal["large", "small", "learned"] = Field(
        "large",
        description="Variance of each step's noise: beta_t (`large`), the posterior variance (`small`), or what the "
        "network predicts between them (`learned`, for the process `iddpm`).",
    )

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        if self.variance == "learned" and not process.learns_variance:
            yield f"{key}.variance", "learned", "large or small (learned is only for a process that learns it: iddpm)"
