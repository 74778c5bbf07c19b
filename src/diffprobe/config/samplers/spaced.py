"""What samplers share that take some steps of a discrete process."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diffprobe.config.base import LATER, Positive, Steps
from diffprobe.config.problems import Problem
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler
from diffprobe.config.schedules import spaced

Spacing = Literal["even", "ddae", "dit", "ddim"] | list[Positive]


class SpacedSampler(Sampler):
    """A sampler of a discrete process."""

    steps: Steps | None = Field(
        None, ge=1, description="Number of steps, spaced by `spacing`; null: all steps of the process."
    )
    spacing: Annotated[Spacing, LATER] = Field(
        "even",
        description="Which steps of the process are taken. `even`: exactly `steps`, evenly spaced, without the "
        "last (DDIM), where `beta_schedule: inverted` has 16 to 37 % of the image left: there take `dit`. `ddae`: "
        "as in DDAE's code, which takes more where `steps` does not divide the process's (30 of 1,000 become 31). "
        "The others as in the code of ADM and DiT. `dit`, its plain number: exactly `steps` with both ends (of "
        "250, counted from 0: 0, 4, .., 995, 999). `ddim`, its ddim50: at the integer stride that takes exactly "
        "`steps`. A list, its 10,15,20: so many of each of as many equal sections, the least noisy first; `steps` "
        "is their sum.",
    )

    @model_validator(mode="before")
    @classmethod
    def with_sum(cls, settings: object) -> object:
        """A list of `spacing` implies the number of steps."""
        spacing = settings.get("spacing") if isinstance(settings, dict) else None
        if isinstance(settings, dict) and isinstance(spacing, list) and all(type(n) is int for n in spacing):
            return {"steps": sum(spacing)} | settings
        return settings

    def problems(self, key: str, process: Process) -> Iterator[Problem]:
        yield from super().problems(key, process)
        most = getattr(process, "steps", None)
        if most is None:
            return  # of a process that this sampler does not suit
        if (self.steps or 1) > most:
            yield f"{key}.steps", self.steps, f"at most the process's {most} steps"
        elif self.steps == 1 < most:
            yield f"{key}.steps", 1, "at least 2: a single one would be the last, which leaves the noise as it is"
        elif isinstance(self.spacing, list) and self.steps != sum(self.spacing):
            yield f"{key}.steps", self.steps, f"{sum(self.spacing)}, the sum of spacing"
        else:
            try:
                spaced(self.steps or most, most, self.spacing)
            except ValueError as error:
                yield f"{key}.spacing", self.spacing, str(error)
