"""Classifier-free guidance of all or some channels, in an interval, against its equation; labels of samples."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffprobe.config import processes, samplers
from diffprobe.diffusion.build import Sampler, build_sampler
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.flow import Flow
from diffprobe.diffusion.guidance import guided
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Denoised
from diffprobe.evaluation.model import Model
from diffprobe.evaluation.sampling import Drawing, draw, evaluations, labels
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal

SHAPE = (4, 3, 3)
LABELS = torch.tensor([2, 0, 5])
START = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def output(x: Tensor, c: Tensor, label: Tensor) -> Tensor:
    """Of twice the channels: a smooth function of image, level and label, -1 for none."""
    by = (0.3 * label.to(x.dtype) + torch.sin(c / 7).to(x.dtype))[:, None, None, None]
    return torch.cat([torch.tanh(0.6 * x + 0.2 * x.roll(1, 3) + by), torch.cos(x - by)], dim=1)


def eps_only(x: Tensor, c: Tensor, label: Tensor) -> Tensor:
    return output(x, c, label)[:, :4]


def noise(step: int) -> Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1000 + step))


def drawn(sampler: dict[str, Any], process: dict[str, Any], network: Callable[..., Tensor]) -> Tensor:
    made = built(sampler, process)
    chosen = made.settings

    def denoise(x: Tensor, level: Level, label: Tensor) -> Denoised:
        net = lambda x, c, *_: (network(x, c, label), {})  # noqa: E731
        return made.process.denoise(net, x, level.of(x))

    guide = guided(denoise, LABELS, chosen.guidance, chosen.guidance_channels, chosen.guidance_interval)
    return made.run(guide, START, noise)


def built(sampler: dict[str, Any], process: dict[str, Any]) -> Sampler:
    return build_sampler(samplers.Sampler.member(sampler), processes.Process.member(process))


@pytest.mark.parametrize("channels", [3, "all"])
def test_dits_sampling_is_that_of_its_equations(channels: int | str) -> None:
    """eps = u + 1.5 (c - u) in the first channels, the conditional eps in the others, and the conditional variance."""
    steps = [round(i * 999 / 19) for i in range(20)]  # of 1,000, counted from 0
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[steps].tolist()
    x = START.double()
    for i in reversed(range(20)):
        a, before = abar[i], abar[i - 1] if i else 1.0
        beta, t = 1 - a / before, torch.full((3,), float(steps[i]))
        cond, values = output(x.float(), t, LABELS).double().chunk(2, dim=1)
        uncond = eps_only(x.float(), t, torch.full((3,), -1)).double()
        eps = cond.clone()
        first = slice(None) if channels == "all" else slice(channels)
        eps[:, first] = uncond[:, first] + 1.5 * (cond - uncond)[:, first]
        x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        x = math.sqrt(before) * beta / (1 - a) * x0 + math.sqrt(a / before) * (1 - before) / (1 - a) * x
        if i:
            v = (values + 1) / 2
            logvar = v * math.log(beta) + (1 - v) * math.log(beta * (1 - before) / (1 - a))
            x = x + (logvar / 2).exp() * noise(19 - i).double()
    sampler = {"kind": "ddpm", "steps": 20, "spacing": "dit", "variance": "learned", "guidance": 1.5}
    actual = drawn(sampler | {"guidance_channels": channels}, {"kind": "iddpm"}, output)
    torch.testing.assert_close(actual, x.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.7), (0.3, 0.7), (0.25, None), (None, 0.5)])
def test_guidance_in_an_interval_of_flow_matching(low: float | None, high: float | None) -> None:
    """REPA's, by its times: v = u + 1.8 (c - u) where low <= t <= high, else the conditional."""
    x, times = START.double(), [1 - i / 10 for i in range(11)]
    for t, after in pairwise(times):
        c = torch.full((3,), t)
        v = eps_only(x.float(), c, LABELS).double()
        if (low or 0) - 1e-9 <= t <= (1.0 if high is None else high) + 1e-9:
            u = eps_only(x.float(), c, torch.full((3,), -1)).double()
            v = u + 1.8 * (v - u)
        x = x + (after - t) * v
    interval = [None if t is None else t / (1 - t) * s for t, s in ((low, 1 - 1e-9), (high, 1 + 1e-9))]
    sampler = {"kind": "euler", "steps": 10, "guidance": 1.8, "guidance_interval": interval}
    torch.testing.assert_close(drawn(sampler, {"kind": "flow"}, eps_only), x.float(), rtol=1e-5, atol=1e-5)


def test_levels_beyond_the_interval_cost_one_evaluation() -> None:
    """Of ten levels t = 1, 0.9, .., 0.1 four have t from 0.4 to 0.7."""
    sampler = {"kind": "euler", "steps": 10, "guidance": 2.0}
    for interval, cost in ((None, 20), ([0.6, 2.4], 14), ([None, None], 20), ([50.0, None], 11)):
        assert evaluations(built(sampler | {"guidance_interval": interval}, {"kind": "flow"})) == cost
    for guidance in (0.0, 1.0):
        assert evaluations(built(sampler | {"guidance": guidance}, {"kind": "flow"})) == 10


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 8), st.integers(1, 4), st.integers(1, 1000), st.integers(0, 99))
def test_guidance_of_some_channels_leaves_the_others_conditional(
    scale: float, channels: int, t: int, seed: int
) -> None:
    x, level = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(seed)), DDPM().at(t)

    def denoise(x: Tensor, level: Level, label: Tensor) -> Denoised:
        return DDPM().denoise(lambda x, c, *_: (eps_only(x, c, label), {}), x, level.of(x))

    conditional, none = denoise(x, level, LABELS).image, denoise(x, level, torch.full((3,), -1)).image
    some = guided(denoise, LABELS, scale, channels)(x, level).image
    torch.testing.assert_close(some[:, channels:], conditional[:, channels:])
    expected = none + scale * (conditional - none)
    torch.testing.assert_close(some[:, :channels], expected[:, :channels], rtol=1e-4, atol=1e-4 * level.ratio + 1e-5)
    assert torch.equal(guided(denoise, LABELS, 1.0, channels)(x, level).image, conditional)


# --- labels


def test_balanced_labels_come_equally_often_and_lists_in_turn() -> None:
    rows = torch.arange(7, 27)
    assert labels("balanced", 10, rows, seed=0).tolist() == [i % 10 for i in range(7, 27)]
    assert labels([207, 3, 3], 1000, rows, seed=5).tolist() == [[207, 3, 3][i % 3] for i in range(7, 27)]
    assert labels("random", 0, rows, seed=0).tolist() == [-1] * 20
    with pytest.raises(UserError, match="labels: 10 is refused; allowed: 0 to 9"):
        labels([3, 10], 10, rows, seed=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 1000), st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 50))
def test_a_random_label_is_a_function_of_seed_and_number(classes: int, first: int, seed: int, cut: int) -> None:
    rows = torch.arange(first, first + 100)
    drawn = labels("random", classes, rows, seed)
    assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() < classes
    assert torch.equal(drawn[cut:], labels("random", classes, rows[cut:], seed))


def test_random_labels_are_uniform_and_independent_of_the_noise() -> None:
    rows = torch.arange(100_000)
    drawn = labels("random", 10, rows, seed=1)
    counts = drawn.bincount(minlength=10)
    assert (counts - 10_000).abs().max() < 400  # four deviations
    assert not torch.equal(drawn, labels("random", 10, rows, seed=2))
    start = normal(Key(1, "sample"), rows, (1,))[:, 0]
    assert abs(torch.corrcoef(torch.stack([drawn.double(), start.double()]))[0, 1]) < 0.02


class Labelled(torch.nn.Module):
    """A velocity by which the image becomes its label / 10."""

    def forward(self, x: Tensor, c: Tensor, cond: Condition = NOTHING, *_: object) -> tuple[Tensor, dict]:
        assert cond.label is not None
        target = cond.label.float()[:, None, None, None] / 10
        return (x - target) / c[:, None, None, None], {}


@pytest.mark.parametrize("which", ["balanced", "random", [4, 2]])
def test_images_are_drawn_of_their_labels(which: str | list[int]) -> None:
    model = Model(Labelled(), Flow(), {}, (1, 2, 2), (2, 2, 1), 6, None, lambda x: x)
    made = built({"kind": "euler", "steps": 3, "labels": which}, {"kind": "flow"})
    rows = torch.arange(12)
    images = draw(model, made, rows, seed=3)  # (B, H, W, C)
    found = ((images.float() / 127.5 - 1) * 10).round().long()[:, 0, 0, 0]
    assert torch.equal(found, labels(which, 6, rows, seed=3))
    drawing = Drawing(model, made, 3, {}, 5, torch.device("cpu"))
    assert drawing.labels == which and torch.equal(drawing.images(0, 12), images)
    assert Drawing(model._replace(classes=0), made, 3, {}, 5, torch.device("cpu")).labels is None
