"""Noise levels as written in a config."""

from typing import Literal

from pydantic import Field

from diffprobe.config.base import Above0, Integer, Number, Strict


class At(Strict):
    """A noise level in a published recipe's numbering; set exactly one key."""

    t: Number | None = Field(
        None,
        ge=0,
        description="`ddpm`: the step, counted from 1 (DDAE), or from 0 with a `dit` network (DiT). `flow`: the time.",
    )
    edm_index: Integer | None = Field(
        None, ge=1, le=18, description="`edm`: index among 18 levels as in DDAE; 1 is sigma_min, 18 is sigma_max."
    )


Level = Above0 | At
CLEAN = 0.0  # sigma/alpha of an image as it is
GridLevel = Level | Literal["clean"]
