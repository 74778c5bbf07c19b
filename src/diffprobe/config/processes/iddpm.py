"""DDPM with a learned variance."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number
from diffprobe.config.processes.ddpm import Discrete


class IDDPM(Discrete):
    """DDPM with a learned variance (Nichol & Dhariwal, Improved denoising diffusion probabilistic models, 2021), as DiT
    is trained: the network predicts the noise and, in as many channels again, the variance of each step, by the hybrid
    loss. The sampler `ddpm` uses it with `variance: learned`.
    """

    kind: Literal["iddpm"]
    build: ClassVar[str] = "diffprobe.diffusion.iddpm:IDDPM"
    learns_variance: ClassVar[bool] = True

    vlb_weight: Number = Field(
        1e-3,
        ge=0,
        description="Weight of the variational bound, in bits per dimension summed over all steps, beside the squared "
        "error of the noise (lambda of their eq. 16).",
    )

    def usual_sampler(self, bounded: bool) -> dict[str, Any]:
        steps = {"steps": min(250, self.steps), "spacing": "dit"}
        return {"kind": "ddpm", "variance": "learned", "clip": bounded} | steps
