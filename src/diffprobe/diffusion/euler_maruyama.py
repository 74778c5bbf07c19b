"""Euler and Maruyama's method for flow matching (Ma et al., SiT: Exploring flow and diffusion-based generative models
with scalable interpolant transformers, 2024; Yu et al., Representation alignment for generation, 2025).
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from diffprobe.diffusion.samplers import Trajectory, moved

if TYPE_CHECKING:
    from diffprobe.config.samplers.euler_maruyama import EulerMaruyama

# w of the time t, 1 for noise. SiT's code has half of it and its own time, 1 - t.
COEFFICIENTS: dict[str, Callable[[float], float]] = {
    "sigma": lambda t: 2 * t,
    "sbdm": lambda t: 2 * t / (1 - t),
    "constant": lambda t: 2.0,
    "decreasing": lambda t: (1 - math.cos(math.pi * t)) ** 2 / 2,
    "increasing_decreasing": lambda t: 2 * math.sin(math.pi * t) ** 2,
}


def euler_maruyama(trajectory: Trajectory, x: Tensor, settings: "EulerMaruyama") -> Tensor:
    """Steps of dx = (v - w/2 score) dt + sqrt(w) dW backwards in time, whose marginals are those of the flow for any w
    (SiT, eq. 5). The last step adds no noise.
    """
    for i, now, after in trajectory.steps():
        t, dt = now.sigma, after.sigma - now.sigma  # dt < 0
        clean, eps = trajectory.estimates(x, now)
        if settings.last_step == "denoise" and not after.sigma:
            return clean
        w = settings.diffusion_scale * COEFFICIENTS[settings.diffusion](t)
        x = moved(x, now, after, clean, eps) + w / 2 * dt * eps / t  # the score is -eps / t
        if after.sigma:
            x = x + math.sqrt(-w * dt) * trajectory.noise(i).double()
    return x
