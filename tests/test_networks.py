"""The U-Net: published sizes and shapes, taps, early exit."""

import pytest
import torch

from diffprobe.config.names import unet_taps
from diffprobe.networks.unet import UNet


def small() -> UNet:
    torch.manual_seed(0)
    return UNet(3, 16, (1, 2, 2), blocks=2, attention=(1,), groups=8).eval()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"multipliers": (1, 2, 2, 2), "blocks": 2}, 35_746_307),
        ({"multipliers": (2, 2, 2), "blocks": 4, "resample": "block"}, 56_524_291),
    ],
)
def test_published_parameter_counts(options, count):
    """DDAE's two U-Nets (Xiang et al. 2023, their code's counts)."""
    with torch.device("meta"):
        network = UNet(3, 128, attention=(1,), dropout=0.1, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_published_tap_shapes():
    with torch.device("meta"):
        network = UNet(3, 128, (1, 2, 2, 2), blocks=2, attention=(1,))
        _, found = network(torch.zeros(1, 3, 32, 32), torch.zeros(1), taps=network.taps)
    sizes = {name: tuple(h.shape[1:]) for name, h in found.items()}
    expected = [(256, 4, 4)] * 3 + [(256, 8, 8)] * 3 + [(256, 16, 16)] * 3 + [(128, 32, 32)] * 3
    assert [sizes[f"out_{i}"] for i in range(1, 13)] == expected
    assert sizes["mid"] == (256, 4, 4)


def test_taps_are_named_without_the_network():
    assert small().taps == unet_taps(levels=3, blocks=2)


def test_early_exit_gives_the_same_features_and_computes_no_more():
    network, x, c = small(), torch.randn(2, 3, 16, 16), torch.randn(2)
    _, whole = network(x, c, taps=network.taps)
    for tap in network.taps:
        out, found = network(x, c, taps=[tap], features_only=True)
        assert out is None
        assert torch.equal(found[tap], whole[tap])
    calls = []
    network.head.register_forward_hook(lambda *_: calls.append(1))
    network.decoder[-1].register_forward_hook(lambda *_: calls.append(1))
    network(x, c, taps=["out_1"], features_only=True)
    assert not calls
    network(x, c)
    assert len(calls) == 2
