"""The seam between networks and samplers: a process owns its noise levels, its network's input and output, its loss.

In every process here a noisy image is x_t = alpha x + sigma n, and `denoise` returns the estimate of x, whatever the
network predicts. So samplers and probes depend neither on the prediction nor on the network's scaling.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from diffprobe.diffusion.levels import Level, Levels, per_image
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.runtime.keyed import Draws


class Network(Protocol):
    """Scaled images (B, C, H, W) and c_noise (B,) to the raw output and the tapped activations, by name.

    With `features_only` it stops after the last tap; the output is None then.
    """

    def __call__(
        self,
        x: Tensor,
        c_noise: Tensor,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> tuple[Tensor | None, dict[str, Tensor]]: ...


class Denoised(NamedTuple):
    """What a network's pass tells about a noisy image."""

    x0: Tensor | None  # (B, C, H, W): the estimate of the clean image; None where the network stopped after the taps
    activations: Mapping[str, Tensor] = MappingProxyType({})  # by tap
    variance_share: Tensor | None = None  # (B, C, H, W), where the variance is learned: see `samplers.ancestral`

    @property
    def image(self) -> Tensor:
        """x0 of a pass that went to the end."""
        if self.x0 is None:
            raise ValueError("no estimate: the network stopped after its taps")
        return self.x0


class Noised(NamedTuple):
    """What a loss begins with: images, noise, and the noisy images that they make."""

    clean: Tensor  # (B, C, H, W)
    noise: Tensor  # (B, C, H, W)
    level: Levels  # each (B,)
    noisy: Tensor  # (B, C, H, W)


class Process(ABC):
    """One objective: noise levels, what the network sees and what it predicts. config/processes/ has its settings."""

    @abstractmethod
    def level(self, ratio: float) -> Level:
        """The level whose sigma/alpha is `ratio`, or the nearest one of a discrete process."""

    @abstractmethod
    def schedule(self, *args: Any, **settings: Any) -> list[Level]:
        """Falling levels to sample at, then the one to end at; `settings` are those of its config's `schedule`."""

    def loss(self, network: Network, x: Tensor, draws: Draws, cond: Condition = NOTHING) -> Tensor:
        """The training loss of clean images x (B, C, H, W), a scalar; levels and noise from `draws`.

        In two parts, since on a GPU the first is compiled for itself (`training.tasks.diffusion`).
        """
        return self.error(network, self.noised(x, draws), cond)

    def noised(self, x: Tensor, draws: Draws) -> Noised:
        """Clean images x (B, C, H, W) at levels and with noise from `draws`."""
        level = self.draw_levels(x, draws)
        noise = draws.normal("noise", tuple(x.shape[1:]))
        return Noised(x, noise, level, perturb(x, level, noise))

    def draw_levels(self, x: Tensor, draws: Draws) -> Levels:
        """The levels at which a batch x (B, C, H, W) is trained, each (B,) on its device."""
        raise NotImplementedError  # by a process that has a `loss` of its own

    def error(self, network: Network, batch: Noised, cond: Condition) -> Tensor:
        """The training loss of noisy images, a scalar. It draws nothing."""
        raise NotImplementedError

    @abstractmethod
    def estimate(self, output: Tensor, x: Tensor, level: Levels) -> Denoised:
        """The estimate of the clean image, and the variance where it is learned, by the network's output."""

    def scaled(self, x: Tensor, level: Levels) -> Tensor:
        """What the network sees of noisy images x (B, C, H, W)."""
        return x

    def start(self, noise: Tensor, level: Level) -> Tensor:
        """The state that sampling begins with, from normal noise (B, C, H, W)."""
        return noise  # where sigma is 1 at the highest level

    def denoise(
        self,
        network: Network,
        x: Tensor,
        level: Levels,
        cond: Condition = NOTHING,
        taps: Sequence[str] = (),
        features_only: bool = False,
    ) -> Denoised:
        """The estimate of the clean image, and the tapped activations.

        x (B, C, H, W) at the levels (B,). With `features_only` the network stops after the last tap, without estimate.
        """
        output, activations = network(self.scaled(x, level), level.c_noise, cond, taps, features_only)
        denoised = Denoised(None) if output is None else self.estimate(output, x, level)
        return denoised._replace(activations=activations)


def perturb(x: Tensor, level: Levels, noise: Tensor) -> Tensor:
    """alpha x + sigma n; x, noise (B, C, H, W)."""
    return per_image(level.alpha) * x + per_image(level.sigma) * noise


def predicted(network: Network, x: Tensor, level: Levels, cond: Condition) -> Tensor:
    """The network's raw output (B, C, H, W) for scaled images x."""
    output, _ = network(x, level.c_noise, cond)
    assert output is not None  # None only with features_only
    return output
