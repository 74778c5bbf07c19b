"""A diffusers UNet2DModel as a network of ours: its output, its taps, nothing computed after the last one."""

import copy

import pytest
import torch
from diffusers import UNet2DModel
from toy_networks import OURS, SMALL, diffusers_model

from diffprobe.config.built import parse_network
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.interop.diffusers_unet import unet_names
from diffprobe.interop.names import to_ours
from diffprobe.networks.build import build
from diffprobe.networks.wrapped import Wrapped
from diffprobe.runtime.errors import UserError

X, T = torch.randn(3, 1, 8, 8, generator=torch.manual_seed(1)), torch.tensor([0.0, 17.0, 999.0])


def wrapped(**changes: object) -> tuple[Wrapped, UNet2DModel]:
    model = diffusers_model(**changes)
    network = (
        build(parse_network({"kind": "diffusers", "config": SMALL | changes}), image_channels=1)
        .eval()
        .requires_grad_(False)
    )
    network.load_state_dict({f"unet.{name}": value for name, value in model.state_dict().items()})
    return network, model


@torch.no_grad()
def test_output_and_taps_are_those_of_the_model_and_of_our_u_net() -> None:
    network, model = wrapped()
    ours = build(parse_network(OURS), image_channels=1).eval()
    state = ours.state_dict()
    ours.load_state_dict(to_ours(model.state_dict(), unet_names(ours), state, "", ""))
    assert network.taps == ours.taps
    output, tapped = network(X, T, taps=network.taps)
    torch.testing.assert_close(output, model(X, T).sample)
    expected = ours(X, T, taps=ours.taps)
    torch.testing.assert_close(output, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tapped, expected[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_nothing_is_computed_after_the_last_tap() -> None:
    network, _ = wrapped()
    called: list[str] = []
    for name, module in network.unet.named_modules():
        module.register_forward_pre_hook(lambda module, inputs, name=name: called.append(name))
    whole = network(X, T, taps=["mid", "out_2"])[1]
    assert "conv_out" in called
    called.clear()
    output, tapped = network(X, T, taps=["out_2", "mid"], features_only=True)
    assert output is None
    torch.testing.assert_close(tapped, whole)
    assert called[-1].startswith("up_blocks.0.attentions.1")
    assert not any("up_blocks.0.resnets.2" in name or "up_blocks.1" in name or "conv_out" in name for name in called)
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_are_removed_after_an_error_and_copies_have_their_own() -> None:
    network, _ = wrapped()
    with pytest.raises(RuntimeError):
        network(X[:, :, :, :7], T, taps=["out_6"])
    assert not any(module._forward_hooks for module in network.modules())
    other = copy.deepcopy(network)  # as a moving average is
    for parameter in other.parameters():
        parameter.zero_()
    with torch.no_grad():
        assert not other(X, T, taps=["mid"], features_only=True)[1]["mid"].any()
        assert network(X, T, taps=["mid"], features_only=True)[1]["mid"].any()


@torch.no_grad()
def test_blocks_of_score_based_models_have_taps_too() -> None:
    """Their decoder has one attention per block, after its last residual block (Song et al. 2021)."""
    changes = {
        "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
        "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"],
        "block_out_channels": [128, 128],
        "in_channels": 3,
        "out_channels": 3,
    }
    model = diffusers_model(**changes)
    network = Wrapped(SMALL | changes, image_channels=3).eval()
    network.unet.load_state_dict(model.state_dict())
    x = X.expand(-1, 3, -1, -1)
    output, tapped = network(x, T, taps=network.taps)
    torch.testing.assert_close(output, model(x, T).sample)
    shapes = {tap: tuple(h.shape[1:]) for tap, h in tapped.items()}
    assert list(shapes) == network.taps
    assert shapes["in_1"] == shapes["out_6"] == (128, 8, 8)
    assert shapes["in_4"] == shapes["mid"] == shapes["out_3"] == (128, 4, 4)
    assert network.tapped["out_3"] is network.unet.up_blocks[0].attentions[0]
    assert network.tapped["out_2"] is network.unet.up_blocks[0].resnets[1]


@torch.no_grad()
def test_a_process_denoises_with_it() -> None:
    network, model = wrapped()
    process = DDPM()
    level = process.level(0.5)
    denoised = process.denoise(network, X, level.of(X), taps=["out_1"])
    expected = (X - level.sigma * model(X, level.c_noise).sample) / level.alpha
    torch.testing.assert_close(denoised.x0, expected)
    assert denoised.activations["out_1"].shape == (3, 32, 4, 4)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type: fourier is refused"),
        ({"in_channels": 3}, "in_channels: 3 is refused; allowed: 1"),
        ({"down_block_types": ["NoBlock"] * 2}, "no UNet2DModel can be built of it"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(changes: dict, line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        build(parse_network({"kind": "diffusers", "config": SMALL | changes}), image_channels=1)
    assert "\n" not in str(error.value)
