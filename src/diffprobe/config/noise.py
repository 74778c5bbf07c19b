"""Noise levels as a config writes them."""

from pydantic import Field

from diffprobe.config.base import Above0, Integer, Number, Strict


class At(Strict):
    """A noise level as the published recipe counts, by one of the two."""

    t: Number | None = Field(
        None,
        ge=0,
        description="`ddpm`: the step, from 1 (DDAE), or from 0 where the network is a `dit` (DiT). `flow`: the time.",
    )
    edm_index: Integer | None = Field(
        None, ge=1, le=18, description="`edm`: of its 18 levels, as DDAE counts: 1 is sigma_min, 18 sigma_max."
    )


Level = Above0 | At
