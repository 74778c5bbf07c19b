"""A diffusion model as a classifier: what fine-tuning trains, and how it sees images."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from diffprobe.diffusion.activations import activations
from diffprobe.diffusion.levels import CLEAN, Level
from diffprobe.diffusion.process import Network, Process
from diffprobe.networks.build import Settings, build
from diffprobe.networks.condition import Condition
from diffprobe.networks.pooling import POOLINGS

NORMS = {
    "layer": lambda width: nn.LayerNorm(width, elementwise_affine=False),
    "batch": lambda width: nn.BatchNorm1d(width, affine=False),
    None: lambda width: nn.Identity(),
}  # without parameters, as a linear layer follows


class FineTuned(nn.Module):
    """A model up to one of its taps, and a linear classifier of the pooled activation, of length `width`.

    `forward(activation)`: a tap's activation (B, ...) to logits (B, classes), float32. The classifier starts at zero:
    each class has the same probability.
    """

    def __init__(
        self,
        model: Settings,
        shape: Mapping[str, int],  # of the model, as `networks.build.build` takes it
        tap: str,
        pooling: str,  # a key of POOLINGS
        norm: Literal["layer", "batch"] | None,
        width: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.model, self.tap, self.pooling = build(model, **shape), tap, pooling
        self.norm, self.head = NORMS[norm](width), nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, activation: Tensor) -> Tensor:
        return self.head(self.norm(POOLINGS[self.pooling](activation.float()))).float()


class Sight(NamedTuple):
    """How a fine-tuned model sees images."""

    process: Process
    level: Level
    noisy: bool  # with noise of the level; else without, where the process scales the image all the same
    label: int | None = None  # that a conditional network is given for every image
    zeroed: tuple[str, ...] = ()  # embeddings in whose place there are zeros
    encoded: bool = False  # whether a network that makes a code of the clean image is given that image too

    @property
    def described(self) -> dict[str, Any]:
        """All but the process, for the header of a checkpoint."""
        others = {name: value for name, value in self._asdict().items() if name not in ("process", "level")}
        return {"sigma": self.level.ratio, **others}

    @classmethod
    def of(cls, process: Process, sigma: float, zeroed: Sequence[str], **others: Any) -> "Sight":
        """From what `described` returns."""
        return cls(process, process.level(sigma) if sigma else CLEAN, zeroed=tuple(zeroed), **others)

    @property
    def draws(self) -> bool:
        """Whether what is seen of an image differs from one draw of noise to another."""
        return self.noisy and self.level.sigma > 0

    def activations(
        self, network: Network, x: Tensor, noise: Tensor | None, taps: Sequence[str], augment: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """The taps of images x (B, C, H, W), nothing after them computed. `noise` is needed where `draws` says so."""
        label = None if self.label is None else torch.full((len(x),), self.label, device=x.device)
        if self.level.sigma and noise is None:
            noise = torch.zeros_like(x)
        cond, level = Condition(label, augment=augment, zeroed=self.zeroed), self.level.of(x)
        return activations(network, self.process, x, level, noise, cond, taps, self.encoded)

    def logits(self, module: FineTuned, x: Tensor, noise: Tensor | None, augment: Tensor | None = None) -> Tensor:
        """(B, classes) of images x (B, C, H, W)."""
        return module(self.activations(module.model, x, noise, [module.tap], augment)[module.tap])
