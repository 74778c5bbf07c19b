"""DDIM."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Number
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler
from diffprobe.config.samplers.ancestral import problems_of_steps


class DDIM(Sampler):
    """DDIM (Song et al. 2021), for the process `ddpm`."""

    kind: Literal["ddim"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:ddim"

    steps: Integer = Field(100, ge=1, description="Evenly spaced steps; as many evaluations of the network.")
    eta: Number = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 as noisy as DDPM.")
    table: Literal["exact", "ddae"] = Field(
        "exact", description="Noise levels as in training, or those that DDAE's code reads, off by one."
    )

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        yield from problems_of_steps(key, self.steps, process)
