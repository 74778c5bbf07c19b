"""The seam between networks and samplers: a process owns its noise levels, its network's input and output, its loss.

Of every process here a noisy image is x_t = alpha x + sigma n, and `denoise` gives the estimate of x, whatever the
network predicts; so samplers and probes know neither the prediction nor the network's scaling.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from diffprobe.diffusion.levels import Level, Levels, per_image
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.runtime.keyed import Draws

Network = Callable[..., tuple[Tensor | None, dict[str, Tensor]]]
Found = tuple[Tensor | None, dict[str, Tensor]]  # the estimate of the clean image, and the tapped activations


class Process(Protocol):
    def level(self, ratio: float) -> Level:
        """The level whose sigma/alpha is `ratio`, or the nearest that there is."""

    def schedule(self, steps: int, **options: Any) -> list[Level]:
        """`steps` falling levels to sample at, and the one to end at."""

    def start(self, noise: Tensor, level: Level) -> Tensor:
        """The state that sampling begins with, from normal noise (B, C, H, W)."""

    def denoise(
        self,
        network: Network,
        x: Tensor,
        level: Levels,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> Found:
        """The estimate of the clean image (B, C, H, W), and the tapped activations by name.

        x (B, C, H, W) at the levels (B,). With `features_only` the network stops after the last tap, without estimate.
        """

    def loss(self, network: Network, x: Tensor, draws: Draws, cond: Condition = NOTHING) -> Tensor:
        """The training loss of clean images x (B, C, H, W), a scalar; levels and noise from `draws`."""


def perturb(x: Tensor, level: Levels, noise: Tensor) -> Tensor:
    """alpha x + sigma n; x, noise (B, C, H, W)."""
    return per_image(level.alpha) * x + per_image(level.sigma) * noise
