"""DDIM."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Steps
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers.spaced import SpacedSampler


class DDIM(SpacedSampler):
    """DDIM (Song et al. 2021), for the processes `ddpm` and `iddpm`."""

    kind: Literal["ddim"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:ddim"

    steps: Steps = Field(100, ge=1, description="Number of steps, spaced by `spacing`; one network evaluation each.")
    eta: Number = Field(0.0, ge=0, le=1, description="Stochasticity: 0 is deterministic, 1 matches DDPM.")
    table: Literal["exact", "ddae"] = Field(
        "exact", description="Noise levels: `exact` as in training, or `ddae` as in DDAE's code, which is off by one."
    )

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        if self.table == "ddae" and getattr(process, "beta_schedule", "linear") != "linear":
            yield f"{key}.table", "ddae", "exact (ddae is only for linear betas)"
