"""Flow matching."""

from math import log
from statistics import NormalDist
from typing import Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number
from diffprobe.config.processes import Process


class Flow(Process):
    """Flow matching on straight paths (Lipman et al. 2023): x_t = (1 - t) x + t n, predicting the velocity n - x. The
    network is conditioned on t in [0, 1]; set `network.time_scale` to 1000 to suit its sinusoidal embedding.
    """

    kind: Literal["flow"]
    build: ClassVar[str] = "diffprobe.diffusion.flow:Flow"
    samplers: ClassVar[tuple[str, ...]] = ("heun", "euler")
    schedule: ClassVar[tuple[str, ...]] = ("steps", "shift", "first_time", "last_time")

    t: Literal["uniform", "logit_normal"] = Field("uniform", description="Distribution of t in training.")
    t_mean: Number = Field(0.0, description="Mean of the logit of t, for `logit_normal`.")
    t_std: Number = Field(1.0, gt=0, description="Standard deviation of the logit of t, for `logit_normal`.")

    @property
    def level_range(self) -> tuple[float, float, str]:
        # t from 0.001 to 0.999: the ends t = 0 and t = 1 have no finite log-SNR.
        return 0.001, 1000.0, "flow matching"

    def training_share(self, ratio: float) -> float:
        # ln(sigma/alpha) is the logit of t.
        return ratio / (1 + ratio) if self.t == "uniform" else NormalDist(self.t_mean, self.t_std).cdf(log(ratio))

    def usual_sampler(self, bounded: bool) -> dict[str, Any]:
        return {"kind": "heun", "steps": 25}

    def ratio_at_step(self, t: float, steps_from: int) -> float:
        """The time t in [0.001, 0.999]: sigma/alpha = t / (1 - t)."""
        if not 0.001 <= t <= 0.999:
            raise ValueError("t from 0.001 to 0.999")
        return t / (1 - t)  # alpha = 1 - t, sigma = t
