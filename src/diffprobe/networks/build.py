"""From a config subtree to a network. A new backbone is one module and one line here."""

from torch import nn

from diffprobe.networks.classifier import SmallClassifier
from diffprobe.networks.unet import UNet

KINDS = {"unet": UNet, "classifier": SmallClassifier}


def build(config: dict, **shape: int) -> nn.Module:
    """The network of a config subtree with a `kind`; `shape` holds what follows from the data."""
    options = {key: value for key, value in config.items() if key != "kind"}
    return KINDS[config["kind"]](**options, **shape)
