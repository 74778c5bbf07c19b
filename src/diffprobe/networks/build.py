"""From a config subtree to a network. A new backbone is one module and one line here."""

from torch import nn

from diffprobe.networks.autoencoder import autoencoder_kl
from diffprobe.networks.classifier import SmallClassifier
from diffprobe.networks.conv_autoencoder import ConvAutoencoder
from diffprobe.networks.diffusers_autoencoder import diffusers_autoencoder
from diffprobe.networks.dit import DiT
from diffprobe.networks.unet import UNet
from diffprobe.networks.wrapped import Wrapped

KINDS = {
    "unet": UNet,
    "dit": DiT,
    "diffusers": Wrapped,
    "classifier": SmallClassifier,
    "autoencoder_kl": autoencoder_kl,
    "diffusers_autoencoder": diffusers_autoencoder,
    "conv_autoencoder": ConvAutoencoder,
}
USE = ("kind", "conditional", "augment", "label_dropout")  # keys of a config that tell how its network is used


def build(config: dict, **shape: int) -> nn.Module:
    """The network of a config subtree with a `kind`; `shape` holds what follows from the data."""
    options = {key: value for key, value in config.items() if key not in USE}
    return KINDS[config["kind"]](**options, **shape)
