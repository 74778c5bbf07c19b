"""Samplers: diffusers' schedulers as an independent reference, orders of convergence, closed forms, keyed noise."""

import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from torch import Tensor

from diffprobe.diffusion import samplers
from diffprobe.diffusion.build import build_process, build_sampler
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.samplers import heun

SHAPE = (3, 3, 8, 8)
DRAWN = {"guidance": 1.0, "clip": False, "precision": "fp32"}
HEUN = DRAWN | {"kind": "heun", "steps": 18, "rho": 7.0, "shift": 1.0}
HEUN |= {"churn": 0.0, "churn_min": 0.01, "churn_max": 1.0, "churn_noise": 1.007}
EULER = DRAWN | {"kind": "euler", "steps": 20, "rho": 7.0, "shift": 1.0}
START = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def network(x: Tensor, c: Tensor, *_) -> tuple[Tensor, dict]:
    """A smooth function of image and noise level, with neighbours in it; it stands for a trained network."""
    mixed = 0.6 * x + 0.3 * x.roll(1, 3) - 0.2 * x.flip(2)
    return torch.tanh(mixed + torch.sin(c / 7)[:, None, None, None]), {}


def noise(step: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + step))


def drawn(sampler: dict, process: dict, start: Tensor = START, net=network) -> Tensor:
    made = build_sampler(sampler, process)
    denoise = lambda x, level: made.process.denoise(net, x, level.of(x))[0]  # noqa: E731
    return made.run(denoise, start, noise)


# --- the same trajectory as diffusers' schedulers, for the same network and the same noise


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance", ["large", "small"])
def test_ancestral_sampling_is_that_of_diffusers(variance, clip, monkeypatch):
    steps = 200
    scheduler = DDPMScheduler(steps, variance_type=f"fixed_{variance}", clip_sample=clip)
    scheduler.set_timesteps(steps)
    x, made = START, iter(range(steps))
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise(next(made)))
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.float().expand(3))[0], t, x).prev_sample
    found = drawn(DRAWN | {"kind": "ddpm", "steps": None, "variance": variance, "clip": clip}, ddpm(steps))
    close(found, x)


def ddpm(steps: int = 1000, time_input: str = "index") -> dict:
    return {"kind": "ddpm", "steps": steps, "beta_min": 1e-4, "beta_max": 0.02, "time_input": time_input}


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_that_of_diffusers(eta, clip):
    """With `use_clipped_model_output`: the noise is recomputed from the clipped image, as DDAE does."""
    scheduler = DDIMScheduler(1000, clip_sample=clip, set_alpha_to_one=True, timestep_spacing="leading")
    scheduler.set_timesteps(50)
    x = START
    for i, t in enumerate(scheduler.timesteps):
        more = {"variance_noise": noise(i)} if eta else {}
        out = network(x, t.float().expand(3))[0]
        x = scheduler.step(out, t, x, eta=eta, use_clipped_model_output=True, **more).prev_sample
    sampler = DRAWN | {"kind": "ddim", "steps": 50, "eta": eta, "table": "exact", "clip": clip}
    close(drawn(sampler, ddpm()), x)


def test_euler_of_edm_is_that_of_diffusers():
    """At the same levels, too."""
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(20)
    levels = build_process({"kind": "edm"}).schedule(20)
    torch.testing.assert_close(torch.tensor([level.sigma for level in levels]), scheduler.sigmas, rtol=1e-5, atol=0)
    x = START * 80
    for t in scheduler.timesteps:
        out = network(scheduler.scale_model_input(x, t), t.expand(3))[0]
        x = scheduler.step(out, t, x).prev_sample
    close(drawn(EULER, {"kind": "edm"}), x)


def close(found: Tensor, expected: Tensor, tolerance: float = 2e-4) -> None:
    """Within rounding: their state is float32, ours float64."""
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_of_flow_matching_is_that_of_diffusers(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(1000, shift=shift)
    scheduler.set_timesteps(sigmas=[1 - i / 20 for i in range(20)])
    x = START
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(3) / 1000)[0], t, x).prev_sample
    close(drawn(EULER | {"shift": shift}, {"kind": "flow"}), x)


def test_heun_of_flow_matching_is_that_of_diffusers():
    """At their levels: 1 down to 1/1000, then 0."""
    scheduler = FlowMatchHeunDiscreteScheduler(1000)
    scheduler.set_timesteps(12)
    x = START
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(3) / 1000)[0], t, x).prev_sample
    process = build_process({"kind": "flow"})
    times = [float(scheduler.sigmas[0]), *map(float, scheduler.sigmas[1:-1:2]), 0.0]
    denoise = lambda x, level: process.denoise(network, x, level.of(x))[0]  # noqa: E731
    close(heun(denoise, START, [process.at(t) for t in times], noise), x)


@pytest.mark.parametrize("churn", [0.0, 7.4])
def test_heun_of_edm_is_algorithm_2(churn):
    """Karras et al. 2022, algorithm 2, line by line; diffusers has no counterpart."""
    sampler = HEUN | {"churn": churn, "churn_min": 0.05, "churn_max": 50.0}
    sigmas = [level.sigma for level in build_process({"kind": "edm"}).schedule(18)]
    process = build_process({"kind": "edm"})
    D = lambda x, s: process.denoise(network, x.float(), process.level(s).of(x))[0].double()  # noqa: E731
    x = START.double() * sigmas[0]
    for i in range(18):
        gamma = min(churn / 18, math.sqrt(2) - 1) if 0.05 <= sigmas[i] <= 50 else 0
        raised = sigmas[i] + gamma * sigmas[i]
        x = x + math.sqrt(raised**2 - sigmas[i] ** 2) * 1.007 * noise(i).double()
        d = (x - D(x, raised)) / raised
        ahead = x + (sigmas[i + 1] - raised) * d
        if sigmas[i + 1]:
            d_ahead = (ahead - D(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - raised) * (d + d_ahead) / 2
        x = ahead
    close(drawn(sampler, {"kind": "edm"}), x.float(), 1e-5)


# --- closed forms: for data N(0, s^2) the ideal denoiser is linear, and the flow scales x as the deviation grows

S = 0.5


def ideal(x: Tensor, level: Level) -> Tensor:
    return x * (level.alpha * S**2 / (level.alpha**2 * S**2 + level.sigma**2))


def deviation(level: Level) -> float:
    return math.hypot(level.alpha * S, level.sigma)


@pytest.mark.parametrize(
    ("sampler", "process", "order"),
    [
        (HEUN, {"kind": "edm", "sigma_min": 0.1, "sigma_max": 10.0}, 2),
        (EULER, {"kind": "edm", "sigma_min": 0.1, "sigma_max": 10.0}, 1),
        (HEUN, {"kind": "flow"}, 2),
        (EULER, {"kind": "flow"}, 1),
        (DRAWN | {"kind": "ddim", "eta": 0.0}, ddpm(), 1),
    ],
    ids=["heun edm", "euler edm", "heun flow", "euler flow", "ddim"],
)
def test_order_of_convergence(sampler, process, order):
    """The error falls as steps^-order on the way to a level with noise: the last step, to none, is Euler's for all."""

    def error(steps: int) -> float:
        made = build_sampler(sampler | {"steps": steps}, process)
        levels = [level for level in made.levels if level.sigma > 0.0999]  # t = 0.1 of flow matching
        start = torch.full((1, 1, 1, 1), deviation(levels[0]), dtype=torch.float64)
        run = {"heun": heun, "euler": samplers.euler, "ddim": samplers.ddim}[sampler["kind"]]
        return abs(float(run(ideal, start, levels, noise)) - deviation(levels[-1]))

    assert math.log2(error(50) / error(100)) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("sampler", [{"kind": "ddpm", "steps": None}, {"kind": "ddim", "steps": 250, "eta": 1.0}])
def test_noisy_samplers_end_with_the_variance_of_the_data(sampler):
    made = build_sampler(DRAWN | sampler, ddpm())
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(20_000, 1, 1, 1, generator=draws)
    found = made.run(ideal, start, lambda _: torch.randn(20_000, 1, 1, 1, generator=draws))
    assert found.std() == pytest.approx(S, rel=0.03)


# --- what users rely on


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (DRAWN | {"kind": "ddpm", "steps": 20, "variance": "large"}, ddpm()),
        (DRAWN | {"kind": "ddim", "steps": 20, "eta": 0.7}, ddpm()),
        (HEUN | {"churn": 5.0}, {"kind": "edm"}),
        (EULER, {"kind": "flow"}),
    ],
    ids=["ddpm", "ddim", "heun", "euler"],
)
def test_an_image_hangs_on_its_own_noise_alone_and_every_step_is_watched(sampler, process):
    made, seen = build_sampler(sampler, process), []
    denoise = lambda x, level: made.process.denoise(network, x, level.of(x))[0]  # noqa: E731
    together = made.run(denoise, START, noise, seen.append)
    alone = [made.run(denoise, START[i : i + 1], lambda step, i=i: noise(step)[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-5)
    assert len(seen) == len(made.levels) - 1 == sampler["steps"]


def test_clipped_estimates_stay_within_the_pixels():
    loud = lambda x, c, *_: (3 * network(x, c)[0], {})  # noqa: E731
    for sampler, process in ((DRAWN | {"kind": "ddim", "steps": 10, "eta": 0.0}, ddpm()), (HEUN, {"kind": "edm"})):
        assert drawn(sampler, process, net=loud).abs().max() > 1
        assert drawn(sampler | {"clip": True}, process, net=loud).abs().max() <= 1 + 1e-6


def test_ddaes_table_leaves_noise_in_the_image():
    """Its last level is no clean image: the noise that the network says is there stays with a deviation of 0.01."""
    sampler = DRAWN | {"kind": "ddim", "steps": 100, "eta": 0.0, "clip": True}
    table, exact = (build_sampler(sampler | {"table": name}, ddpm()) for name in ("ddae", "exact"))
    assert exact.levels[-1] == (1.0, 0.0, exact.levels[-1].c_noise)
    assert table.levels[-1].sigma == pytest.approx(0.01) and table.levels[-1].alpha ** 2 == pytest.approx(0.9999)
    assert [round(level.c_noise) + 1 for level in exact.levels[:-1]] == list(range(991, 0, -10))
    assert table.levels[-3].alpha ** 2 == pytest.approx(0.99749, abs=5e-6)  # t = 11, where training has 0.99781
