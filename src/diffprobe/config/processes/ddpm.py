"""DDPM."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Number, Steps
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.schedules import discrete_abar, linear_abar, nearest, ratios

LEAST = 1e-60  # abar of the last step: float32 holds the image's share alpha, and what divides by it
MOST_INVERTED = 6_434  # steps of the inverted cosine that all have a beta of at least 0


class Discrete(Process):
    """What processes share that have the discrete steps of DDPM."""

    samplers: ClassVar[tuple[str, ...]] = ("ddpm", "ddim")
    schedule: ClassVar[tuple[str, ...]] = ("steps", "table", "spacing")

    steps: Steps = Field(1000, ge=2, description="Number of steps T.")
    beta_min: Number = Field(1e-4, gt=0, lt=1, description="beta_1; beta increases linearly to beta_T.")
    beta_max: Number = Field(0.02, gt=0, lt=1, description="beta_T.")
    time_input: Literal["index", "fraction"] = Field(
        "index", description="Time input of the network: t - 1 (DDPM's code), or t/T (DDAE)."
    )
    beta_schedule: Annotated[Literal["linear", "cosine", "inverted"], LATER] = Field(
        "linear",
        description="How the noise grows: `linear` betas (DDPM), the `cosine` of Nichol & Dhariwal (2021), or the "
        "`inverted` cosine of SODA, with more steps at medium noise. The last two have betas of their own, at most "
        "0.999.",
    )

    @property
    def ratios(self) -> list[float]:
        """sigma/alpha of steps 0 .. T."""
        return ratios(discrete_abar(self.beta_schedule, self.steps, self.beta_min, self.beta_max))

    @property
    def level_range(self) -> tuple[float, float, str]:
        # Margins for levels that were rounded to six significant digits.
        table = self.ratios
        return table[1] * (1 - 1e-6), table[-1] * (1 + 1e-6), "sigma/alpha of the process's first and last step"

    def ratio(self, level: float) -> float:
        """sigma/alpha of the nearest step."""
        super().ratio(level)
        return self.ratios[nearest(level, self.ratios)]

    def ratio_at_step(self, t: float, steps_from: int) -> float:
        last = self.steps - 1 + steps_from  # of T steps, counted from 0 or 1
        if t != int(t) or not steps_from <= t <= last:
            raise ValueError(f"an integer t from {steps_from} to {last}")
        return self.ratios[int(t) + 1 - steps_from]  # ratios[0] is the clean image, ratios[1] the first step

    def training_share(self, ratio: float) -> float:
        return sum(each <= ratio for each in self.ratios[1:]) / self.steps  # steps are uniform

    def usual_sampler(self, bounded: bool) -> dict[str, Any]:
        # Even steps leave out the last few, before which an inverted cosine has a fifth of the image left.
        spacing = {"spacing": "dit"} if self.beta_schedule == "inverted" else {}
        return {"kind": "ddim", "steps": min(100, self.steps), "clip": bounded} | spacing

    def problems(self, key: str) -> Iterator[Problem]:
        if self.beta_schedule == "inverted" and self.steps > MOST_INVERTED:
            yield (
                f"{key}.steps",
                self.steps,
                f"at most {MOST_INVERTED:,}, beyond which the inverted cosine falls below 0",
            )
        if self.beta_schedule == "linear" and linear_abar(self.steps, self.beta_min, self.beta_max)[-1] < LEAST:
            yield f"{key}.beta_max", self.beta_max, "less: of the image nothing would be left that float32 can hold"
        if self.beta_min > self.beta_max:
            yield f"{key}.beta_min", self.beta_min, f"at most beta_max = {self.beta_max:g}"
        for name in ("beta_min", "beta_max") if self.beta_schedule != "linear" else ():
            if getattr(self, name) != (default := type(self).model_fields[name].default):
                yield f"{key}.{name}", getattr(self, name), f"{default:g}, since only linear betas have it"


class DDPM(Discrete):
    """The DDPM objective (Ho et al. 2020): discrete steps t = 1 .. `steps`, noise prediction."""

    kind: Literal["ddpm"]
    build: ClassVar[str] = "diffprobe.diffusion.ddpm:DDPM"
