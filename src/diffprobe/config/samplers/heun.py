"""Heun's second-order steps."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Number
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler


class Heun(Sampler):
    """Heun's second-order steps (Karras et al. 2022, algorithm 1 and 2), for `edm` and `flow`."""

    kind: Literal["heun"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:heun"

    steps: Integer = Field(18, ge=2, description="Noise levels; 2 * steps - 1 evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How EDM's levels crowd near zero.")
    shift: Number = Field(1.0, gt=0, description="How flow matching's times crowd near noise; 1: evenly spaced.")
    churn: Number = Field(
        0.0,
        ge=0,
        description="Noise added before steps (EDM's S_churn); 0: none. DDAE's eta: churn / (0.4142 steps).",
    )
    churn_min: Number = Field(0.01, ge=0, description="Lowest level at which it is (S_min).")
    churn_max: Number = Field(1.0, gt=0, description="Highest level at which it is (S_max).")
    churn_noise: Number = Field(1.007, gt=0, description="Factor on it (S_noise).")

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        if self.churn and not process.raises_levels:
            yield f"{key}.churn", self.churn, "0 (only the process edm has levels to go up to)"
