"""DDPM's ancestral sampler."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler


class Ancestral(Sampler):
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for the process `ddpm`."""

    kind: Literal["ddpm"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:ancestral"

    steps: Integer | None = Field(
        None, ge=1, description="Number of evenly spaced steps; null: all steps of the process."
    )
    variance: Literal["large", "small"] = Field(
        "large", description="Variance of each step's noise: beta_t (`large`), or the posterior variance (`small`)."
    )

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        yield from problems_of_steps(key, self.steps, process)


def problems_of_steps(key: str, steps: int | None, process: Process) -> Iterator[Problem]:
    """Refuse more steps than a discrete process has."""
    most = getattr(process, "steps", None)
    if most is not None and (steps or 1) > most:
        yield f"{key}.steps", steps, f"at most the process's {most} steps"
