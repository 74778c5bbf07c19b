"""Euler's first-order steps."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Number
from diffprobe.config.samplers import Sampler


class Euler(Sampler):
    """Euler's first-order steps, for `edm` and `flow`."""

    kind: Literal["euler"]
    build: ClassVar[str] = "diffprobe.diffusion.samplers:euler"

    steps: Integer = Field(50, ge=1, description="Noise levels, and evaluations of the network per image.")
    rho: Number = Field(7.0, gt=0, description="How EDM's levels crowd near zero.")
    shift: Number = Field(1.0, gt=0, description="How flow matching's times crowd near noise; 1: evenly spaced.")
