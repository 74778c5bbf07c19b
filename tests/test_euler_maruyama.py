"""Euler and Maruyama's method for flow matching, against the equations of SiT and REPA in their own conventions."""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffprobe.config import processes, samplers
from diffprobe.diffusion.build import Sampler, build_sampler
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Denoised

SHAPE = (3, 2, 4, 4)
START = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
FLOW = {"kind": "flow"}


def velocity(x: Tensor, t: float | Tensor) -> Tensor:
    """A smooth function of image and time: that of noise minus image, t = 1 for noise."""
    return torch.tanh(0.6 * x + 0.3 * x.roll(1, 3) - 0.2 * x.flip(2) + math.sin(5 * float(t)))


def noise(step: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + step))


def built(**sampler: Any) -> Sampler:
    settings_ = samplers.Sampler.member({"kind": "euler_maruyama", **sampler})
    return build_sampler(settings_, processes.Process.member(FLOW))


def drawn(start: Tensor = START, **sampler: Any) -> Tensor:
    made = built(**sampler)
    network = lambda x, c, *_: (velocity(x, c[0]), {})  # noqa: E731
    return made.run(lambda x, level: made.process.denoise(network, x, level.of(x)), start, noise)


def close(images: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(images, expected.float(), rtol=1e-5, atol=1e-5)


def test_repas_sampling_is_that_of_its_equations() -> None:
    """250 times from 1 to 0.04, w = 2 t, the score by the velocity, the mean of the step from 0.04 to 0."""
    times = [*torch.linspace(1.0, 0.04, 250, dtype=torch.float64).tolist(), 0.0]
    x = START.double()
    for i, (t, after) in enumerate(pairwise(times)):
        v, dt, w = velocity(x.float(), t).double(), after - t, 2 * t
        score = (-(1 - t) * v - x) / t  # of the straight path: sigma^2 - (alpha / alpha') sigma sigma' is t
        x = x + (v - w / 2 * score) * dt
        if after:
            x = x + math.sqrt(w * -dt) * noise(i).double()
    close(drawn(), x)


# SiT's time is s = 1 - t, 0 for noise; the velocity is image minus noise, and the coefficients are half of w.
SITS = {
    "sigma": lambda s: 1 - s,
    "sbdm": lambda s: (1 - s) ** 2 / s + (1 - s),
    "constant": lambda s: 1.0,
    "decreasing": lambda s: 0.25 * (math.cos(math.pi * s) + 1) ** 2,
    "increasing_decreasing": lambda s: math.sin(math.pi * s) ** 2,
}


@pytest.mark.parametrize("last_step", ["mean", "denoise"])
@pytest.mark.parametrize("form", SITS)
def test_sits_forms_are_those_of_its_equations(form: str, last_step: str) -> None:
    """From s = 0, or 0.001 where the coefficient is infinite at 0, in 40 steps and a last one of 0.1."""
    first, last, steps = (0.001 if form == "sbdm" else 0.0), 0.1, 40
    stride = (1 - last - first) / (steps - 1)
    x = START.double()
    for i in range(steps):
        s = first + i * stride
        v = -velocity(x.float(), 1 - s).double()  # image minus noise
        score = -(x - s * v) / (1 - s)  # -noise / sigma: noise = x - s v
        d = SITS[form](s)
        if i < steps - 1:
            x = x + (v + d * score) * stride + math.sqrt(2 * d * stride) * noise(i).double()
        elif last_step == "mean":
            x = x + (v + d * score) * last
        else:  # Tweedie's formula
            x = x / s + (1 - s) ** 2 / s * score
    close(drawn(steps=steps, diffusion=form, first_time=1 - first, last_time=last, last_step=last_step), x)


@pytest.mark.parametrize("steps", [2, 10, 250])
def test_its_times_are_even_but_for_the_last(steps: int) -> None:
    made = built(steps=steps)
    times = [level.sigma for level in made.levels]
    assert len(times) == steps + 1 and (times[0], times[-1]) == (1.0, 0.0)
    assert times[-2] == pytest.approx(0.04) and made.levels[-1].alpha == 1
    assert [a - b for a, b in pairwise(times[:-1])] == pytest.approx([0.96 / (steps - 1)] * (steps - 1))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(SITS)), st.integers(2, 30), st.floats(0.01, 0.3))
def test_without_diffusion_it_is_eulers_method(form: str, steps: int, last: float) -> None:
    x, levels = START.double(), built(steps=steps, last_time=last, first_time=0.99).levels
    for now, after in pairwise(levels):
        x = x + (after.sigma - now.sigma) * velocity(x.float(), now.sigma).double()
    close(drawn(steps=steps, last_time=last, first_time=0.99, diffusion=form, diffusion_scale=0), x)


@pytest.mark.parametrize("form", SITS)
def test_marginals_are_those_of_the_flow_for_any_coefficient(form: str) -> None:
    """Data N(0, 0.25) with its ideal denoiser: the variance at the end is the data's."""

    def ideal(x: Tensor, level: Level) -> Denoised:
        return Denoised(x * (level.alpha * 0.25 / (level.alpha**2 * 0.25 + level.sigma**2)))

    draws = torch.Generator().manual_seed(0)
    start = torch.randn(20_000, 1, 1, 1, generator=draws)
    made = built(diffusion=form, last_time=0.01, first_time=0.999, last_step="denoise")
    images = made.run(ideal, start, lambda _: torch.randn(20_000, 1, 1, 1, generator=draws))
    assert images.std() == pytest.approx(0.5, rel=0.03)


def test_an_image_depends_on_its_own_noise_alone_and_every_step_is_watched() -> None:
    made, seen = built(steps=12), []
    denoise = partial(lambda x, level: made.process.denoise(lambda x, c, *_: (velocity(x, c[0]), {}), x, level.of(x)))
    together = made.run(denoise, START, noise, lambda *watched: seen.append(watched))
    alone = [made.run(denoise, START[i : i + 1], lambda step, i=i: noise(step)[i : i + 1]) for i in range(3)]
    close(torch.cat(alone), together)
    assert len(seen) == 12
