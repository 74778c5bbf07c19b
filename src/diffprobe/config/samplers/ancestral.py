"""DDPM's ancestral sampler."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Steps
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler

Spacing = Literal["even", "ddae", "dit"]
SPACING = (
    "Which steps of the process are taken. `even`: exactly `steps`, evenly spaced, without the last (DDIM). `ddae`: as "
    "in DDAE's code, which takes more where `steps` does not divide the process's (30 of 1,000 become 31). `dit`: as "
    "in the code of DiT and ADM, exactly `steps` with both ends (of 250, counted from 0: 0, 4, .., 995, 999)."
)


class Ancestral(Sampler):
    """DDPM's sampler (Ho et al. 2020, algorithm 2), for the process `ddpm`."""

    kind: Literal["ddpm"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:ancestral"

    steps: Steps | None = Field(
        None, ge=1, description="Number of steps, spaced by `spacing`; null: all steps of the process."
    )
    spacing: Annotated[Spacing, LATER] = Field("even", description=SPACING)
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
