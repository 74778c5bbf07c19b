"""From a network's settings to the network. A new backbone is one module here and one model in the config."""

from typing import Any, Protocol

from torch import nn

from diffprobe.runtime.located import located


class Settings(Protocol):
    """A network's typed model (config/networks/, config/built.py), or anything like it."""

    @property
    def build(self) -> str:
        """The place of its class or function."""

    @property
    def options(self) -> dict[str, Any]:
        """Keywords for it."""


def build(network: Settings, **shape: int) -> nn.Module:
    """The network with fresh weights; `shape` is what follows from the data: image_channels, classes, augment."""
    return located(network.build)(**network.options, **shape)
