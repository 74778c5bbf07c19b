"""Autoencoders and what they are trained against: the networks' published sizes, losses by their formulas, two
optimisers that do not meet, and a run that goes on bit for bit whenever it was stopped.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_training import KilledError, equal, run_once, slice_of, stream

from diffprobe.config.built import parse_network
from diffprobe.config.training import HalfLife
from diffprobe.data.batch import Batch
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.build import build
from diffprobe.networks.conv_autoencoder import ConvAutoencoder
from diffprobe.networks.discriminator import Discriminator
from diffprobe.plan.training_argument import Losses
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws
from diffprobe.training.loop import accumulate, fresh, refuse_batch_statistics
from diffprobe.training.optimizers import Options
from diffprobe.training.slices import Slice
from diffprobe.training.state import State
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.autoencoding import Autoencoding, discriminator
from diffprobe.training.world import World

BEGINS = 5  # the step before which the adversary does not play
TERMS = {"reconstruction": "mse", "kl_weight": 0.01, "perceptual": None}
ADVERSARY = {"start_kimg": 16 * BEGINS / 1000, "weight": 0.5, "widths": [8, 16], "norm": "batch"}
AVERAGES = {"ema": HalfLife(kind="half_life", kimg=0.05, ramp=1.0)}
OPTIONS = Options(batch=16, lr=1e-2, betas=(0.5, 0.999), averages=AVERAGES)


def count(*parts: torch.nn.Module) -> int:
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def task(norm: str | None = "batch", **terms: object) -> Autoencoding:
    torch.manual_seed(0)
    network = ConvAutoencoder(widths=(8, 16), blocks=1, groups=4)
    losses = Losses(**{**TERMS, "adversary": norm and ADVERSARY | {"norm": norm}, **terms})
    return Autoencoding(Codec(network, 16, 3, (3, 16, 16)), losses, None, discriminator(losses.adversary, 3, seed=0))


def images() -> Stream:
    return stream(size=16, channels=3)


def batch() -> tuple[Batch, Draws]:
    six = images().read(0, 6)
    return six, Draws(0, six.positions)


# --- networks -----------------------------------------------------------------------------------------------


def test_the_autoencoder_is_the_published_one() -> None:
    network = build(parse_network({"kind": "conv_autoencoder", "channels": 3, "widths": [128, 256, 384]}))
    parts = count(network.encoder, network.quant_conv), count(network.decoder, network.post_quant_conv)
    assert (count(network), *parts) == (17_760_359, 10_723_536, 7_036_823)
    codec = Codec(network.eval(), 128, 3, (3, 128, 128))
    with torch.no_grad():
        moments = codec.moments(torch.zeros(1, 3, 128, 128))
        assert moments.shape == (1, 8, 32, 32)
        assert codec.decode(codec.latents(moments)).shape == (1, 3, 128, 128)


def test_the_discriminator_is_the_published_one() -> None:
    network = Discriminator()
    assert count(network) == 663_360
    assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 1, 15, 15)
    grouped = Discriminator(norm="group")
    assert count(grouped) == 663_360 and grouped(torch.zeros(1, 3, 16, 16)).shape == (1, 1, 1, 1)
    kinds = [type(layer).__name__ for layer in network.layers]
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds == ["Conv2d", "LeakyReLU", *block, *block, "Conv2d"]


def test_batch_norm_sees_the_batch_and_group_norm_one_image() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    for norm, alone in (("batch", False), ("group", True)):
        network = Discriminator(widths=(8, 16), norm=norm).train()
        assert torch.allclose(network(x)[:1], network(x[:1]), atol=1e-5) == alone


# --- losses -------------------------------------------------------------------------------------------------


class Distance(torch.nn.Module):
    """In place of LPIPS: something of both images, per image."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - 2 * b).abs().flatten(1).sum(dim=1)


@pytest.mark.parametrize("reconstruction", ["mse", "l1"])
def test_losses_are_the_published_formulas(reconstruction: str) -> None:
    one = task("group", reconstruction=reconstruction, perceptual={"weight": 3.0})
    one.perceptual, one.adversary_plays = Distance(), True
    six, draws = batch()
    losses = one.losses(six, draws)

    x, d = six.images, one.adversary
    mean, logvar = one.module.quant_conv(one.module.encoder(x)).chunk(2, dim=1)
    z = mean + torch.exp(0.5 * logvar) * draws.normal("posterior", (4, 8, 8))
    y = one.module.decoder(one.module.post_quant_conv(z))
    error = ((y - x) ** 2).mean() if reconstruction == "mse" else (y - x).abs().mean()
    kl = (0.5 * (torch.exp(logvar) + mean**2 - 1 - logvar).sum(dim=(1, 2, 3))).mean()
    lpips = (y - 2 * x).abs().sum() / len(x)
    fooling = ((d(y) - 1) ** 2).mean()
    generator = error + 0.01 * kl + 3.0 * lpips + 0.5 * fooling
    torch.testing.assert_close(losses["loss"], generator)
    torch.testing.assert_close(losses["adversary"], 0.5 * ((d(y) ** 2).mean() + ((d(x) - 1) ** 2).mean()) / 2)
    assert set(losses) == {"loss", reconstruction, "kl", "lpips", "fooling", "adversary"}


def test_neither_step_reaches_the_other() -> None:
    one = task()
    one.adversary_plays = True
    losses = one.losses(*batch())
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in one.adversary.parameters())
    assert all(parameter.grad.any() for parameter in one.module.parameters())
    before = [parameter.grad.clone() for parameter in one.module.parameters()]
    losses["adversary"].backward()
    assert all(parameter.grad is not None for parameter in one.adversary.parameters())
    assert all(torch.equal(a, b.grad) for a, b in zip(before, one.module.parameters(), strict=True))


def test_before_it_plays_the_adversary_is_not_evaluated() -> None:
    assert set(task().losses(*batch())) == {"loss", "mse", "kl"}


# --- the loop -----------------------------------------------------------------------------------------------


def part(run: Path, kimg: int, stop: int) -> Slice:
    """Of an autoencoder's run: its slices all begin at the start."""
    return slice_of(run, kimg, 0, stop)


def go(part: Slice, die_at: int | None = None, every: float = 1e9, norm: str | None = "batch") -> tuple[State, list]:
    state, rows, _ = run_once(part, task(norm), images(), OPTIONS, die_at, every)
    return state, rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list]:
    return go(part(tmp_path_factory.mktemp("run"), 2, 11))


@pytest.mark.parametrize("step", [3, BEGINS - 1, BEGINS, BEGINS + 1, 9])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, undisturbed: tuple[State, list], step: int) -> None:
    """With both modules, batch norms' buffers, both optimisers and their counts; the history too."""
    with pytest.raises(KilledError):
        go(part(tmp_path, 2, 11), die_at=step, every=0)
    resumed, rows = go(part(tmp_path, 2, 11))
    whole, whole_rows = undisturbed
    assert equal(whole, resumed) and resumed.adversary.steps == 11 - BEGINS
    assert json.dumps(rows) == json.dumps(whole_rows)


@pytest.mark.parametrize("first", [4, 8])
def test_a_longer_run_goes_on_from_the_shorter(tmp_path: Path, undisturbed: tuple[State, list], first: int) -> None:
    """kimg is no part of the identity, so raising it costs what is new."""
    go(part(tmp_path, 1, first))
    state, _, steps = run_once(part(tmp_path, 2, 11), task(), images(), OPTIONS)
    assert steps[0] == first and equal(state, undisturbed[0])


def test_the_adversary_begins_at_its_step_and_has_a_row_of_its_own(undisturbed: tuple[State, list]) -> None:
    """Rows of the history do not mix steps with and without it."""
    rows = undisturbed[1]
    assert [(row["step"], "adversary" in row) for row in rows] == [(BEGINS, False), (11, True)]


def test_until_then_the_run_is_the_one_without(tmp_path: Path) -> None:
    for stop, same in ((BEGINS, True), (BEGINS + 1, False)):
        played, alone = (go(part(tmp_path / f"{stop}{norm}", 1, stop), norm=norm)[0] for norm in ("batch", None))
        both = zip(played.module.parameters(), alone.module.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in both) == same
    assert alone.adversary is None and not any(name.startswith("adversary") for name in alone.tensors())


def test_averages_and_checkpoints_are_of_the_autoencoder_alone() -> None:
    state = fresh(task(), OPTIONS)
    assert state.emas["ema"].module.state_dict().keys() == task().module.state_dict().keys()
    assert state.module.state_dict().keys() == task().module.state_dict().keys()


@pytest.mark.parametrize("size", [4, 7])
def test_parts_of_a_batch_give_both_gradients_of_the_whole(size: int) -> None:
    results = {}
    for device_batch in (None, size):
        one = task("group")
        one.adversary_plays = True
        losses = accumulate(one, images(), replace(OPTIONS, device_batch=device_batch), 3, World())
        gradients = [parameter.grad for module in one.modules for parameter in module.parameters()]
        results[device_batch] = gradients, losses
    torch.testing.assert_close(results[size], results[None], rtol=1e-3, atol=1e-6)


def test_an_adversary_with_batch_norm_takes_the_batch_whole() -> None:
    for module in task("group").modules:
        refuse_batch_statistics(module, replace(OPTIONS, device_batch=4), World())
    with pytest.raises(UserError, match="BatchNorm2d takes a device's share of a batch whole"):
        refuse_batch_statistics(task("batch").modules[1], replace(OPTIONS, device_batch=4), World())
