"""DDIM."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Steps
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
