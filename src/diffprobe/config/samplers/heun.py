"""Heun's method."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Steps
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler


class Heun(Sampler):
    """Heun's method (second order; Karras et al. 2022, algorithms 1 and 2), for the processes `edm` and `flow`."""

    kind: Literal["heun"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:heun"

    steps: Steps = Field(18, ge=2, description="Number of noise levels; 2 * steps - 1 network evaluations per image.")
    rho: Number = Field(
        7.0, gt=0, description="Exponent of EDM's noise schedule; larger values concentrate levels near zero."
    )
    shift: Number = Field(1.0, gt=0, description="Shift of flow matching's times towards noise; 1: evenly spaced.")
    churn: Number = Field(
        0.0,
        ge=0,
        description="Noise added before each step (EDM's S_churn); 0: none. DDAE's eta is churn / (0.4142 steps).",
    )
    churn_min: Number = Field(0.01, ge=0, description="Lowest noise level with churn (S_min).")
    churn_max: Number = Field(1.0, gt=0, description="Highest noise level with churn (S_max).")
    churn_noise: Number = Field(1.007, gt=0, description="Factor on the added noise (S_noise).")

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        if self.churn and not process.raises_levels:
            yield f"{key}.churn", self.churn, "0 (churn is only for the process edm)"
