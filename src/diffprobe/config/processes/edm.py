"""EDM."""

from collections.abc import Iterator
from math import log
from statistics import NormalDist
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.schedules import edm_sigmas

EDM_STEPS = 18  # levels of the grid that `edm_index` refers to


class EDM(Process):
    """The EDM objective (Karras et al. 2022): preconditioning and log-normal training noise."""

    kind: Literal["edm"]
    build: ClassVar[str] = "diffprobe.diffusion.edm:EDM"
    samplers: ClassVar[tuple[str, ...]] = ("heun", "euler")
    schedule: ClassVar[tuple[str, ...]] = ("steps", "rho")
    raises_levels: ClassVar[bool] = True

    sigma_data: Number = Field(0.5, gt=0, description="Standard deviation of the data assumed by the preconditioning.")
    p_mean: Number = Field(-1.2, description="Mean of ln(sigma) in training.")
    p_std: Number = Field(1.2, gt=0, description="Standard deviation of ln(sigma) in training.")
    sigma_min: Number = Field(0.002, gt=0, description="Lowest noise level for features.")
    sigma_max: Number = Field(80.0, gt=0, description="Highest noise level for features, and the start of sampling.")
    reduction: Literal["mean", "sum"] = Field(
        "mean",
        description="Reduction of the loss over each image: mean (DDAE) or sum (EDM). Adam is invariant to it, `clip` "
        "is not.",
    )

    @property
    def level_range(self) -> tuple[float, float, str]:
        return self.sigma_min, self.sigma_max, "the process's sigma_min to sigma_max"

    def ratio_at_step(self, t: float, steps_from: int) -> float:
        raise ValueError("sigma or edm_index (t is only for the processes ddpm and flow)")

    def ratio_at_edm_index(self, index: int) -> float:
        # The grid of Karras et al. descends from sigma_max; DDAE counts from sigma_min.
        return edm_sigmas(EDM_STEPS, self.sigma_min, self.sigma_max)[EDM_STEPS - index]

    def training_share(self, ratio: float) -> float:
        return NormalDist(self.p_mean, self.p_std).cdf(log(ratio))

    def problems(self, key: str) -> Iterator[Problem]:
        if self.sigma_min >= self.sigma_max:
            yield f"{key}.sigma_min", self.sigma_min, f"below sigma_max = {self.sigma_max:g}"
