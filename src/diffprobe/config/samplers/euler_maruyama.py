"""Euler and Maruyama's method."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Steps
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler


class EulerMaruyama(Sampler):
    """Euler and Maruyama's steps along the reverse stochastic differential equation of flow matching (Ma et al., SiT,
    2024), for the process `flow`. The defaults are those of SiT's and REPA's figures; times are 1 for noise and
    0 for the image.
    """

    kind: Literal["euler_maruyama"]
    build: ClassVar[str] = "diffprobe.diffusion.euler_maruyama:euler_maruyama"
    processes: ClassVar[tuple[str, ...]] = ("flow",)

    steps: Steps = Field(250, ge=2, description="Number of steps, the last one included; one network evaluation each.")
    diffusion: Literal["sigma", "sbdm", "constant", "decreasing", "increasing_decreasing"] = Field(
        "sigma",
        description="Diffusion coefficient w, by SiT's names: 2 t (`sigma`, theirs and REPA's), 2 t / (1 - t), that of "
        "score-based diffusion (`sbdm`), 2 (`constant`), (1 - cos(pi t))^2 / 2 (`decreasing`) or "
        "2 sin(pi t)^2 (`increasing_decreasing`).",
    )
    diffusion_scale: Number = Field(1.0, ge=0, description="Factor on it; 0: Euler's method, without noise.")
    first_time: Number = Field(
        1.0, gt=0, le=1, description="t where sampling begins; for `sbdm`, which is infinite at 1, below (SiT: 0.999)."
    )
    last_time: Number = Field(
        0.04,
        gt=0,
        lt=1,
        description="t where the last step begins, which adds no noise; the others are of equal length.",
    )
    last_step: Literal["mean", "denoise"] = Field(
        "mean", description="The last step: like the others but for the noise, or the estimate of the clean image."
    )

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        if self.last_time >= self.first_time:
            yield f"{key}.last_time", self.last_time, f"below first_time = {self.first_time:g}"
        if self.diffusion == "sbdm" and self.first_time == 1:
            yield f"{key}.first_time", self.first_time, "below 1, where sbdm is infinite (SiT: 0.999)"
