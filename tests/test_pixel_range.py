"""Latents of pixels that are not in [-1, 1]: samples are decoded, and images encoded, as the store was."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffprobe.data.pixels import from_imagenet, imagenet_normalised, to_float, to_uint8
from diffprobe.evaluation import model
from diffprobe.networks.autoencoder import Codec
from diffprobe.runtime.keyed import Key
from diffprobe.trained import TrainedModel

CPU = torch.device("cpu")
SCALE, SHIFT = 0.5, 0.25


class Encoder(nn.Module):
    """Means that are the pixels themselves, of almost no variance."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.full_like(x, -60)], 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [{}, {"normalise": "imagenet"}])
def test_images_come_back_through_a_perfect_autoencoder(
    channels: int, pixels: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Module()
    network.encoder, network.decoder = Encoder(), nn.Identity()
    codec = Codec(network, 8, 3, (channels, 8, 8))
    monkeypatch.setattr(model, "load_codec", lambda *_: (codec, {}))
    images = torch.randint(0, 256, (4, 8, 8, channels), dtype=torch.uint8)
    x = to_float(images)
    means = codec.moments(imagenet_normalised((x + 1) / 2) if pixels else x).chunk(2, 1)[0]  # as the store encodes
    latents = (means - SHIFT) * SCALE
    header = {"scale": [SCALE] * 3, "shift": [SHIFT] * 3, "image": (channels, 8, 8), "content": "x", **pixels}
    assert torch.equal(to_uint8(model.latent_decoder(header, Path("x"), CPU)(latents)), images)
    trained = TrainedModel(SimpleNamespace(header={"latents": header}, shape=(3, 8, 8)), CPU, codec)
    torch.testing.assert_close(trained.seen(x, 0, Key(0, "test"), 0), latents)


def test_the_range_is_undone() -> None:
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    torch.testing.assert_close(from_imagenet(imagenet_normalised((x + 1) / 2)), x)
