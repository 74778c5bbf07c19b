"""Euler's method."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Steps
from diffprobe.config.samplers import Sampler


class Euler(Sampler):
    """Euler's method (first order), for the processes `edm` and `flow`."""

    kind: Literal["euler"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:euler"

    steps: Steps = Field(50, ge=1, description="Number of noise levels; as many network evaluations per image.")
    rho: Number = Field(
        7.0, gt=0, description="Exponent of EDM's noise schedule; larger values concentrate levels near zero."
    )
    shift: Number = Field(1.0, gt=0, description="Shift of flow matching's times towards noise; 1: evenly spaced.")
