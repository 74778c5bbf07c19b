"""Samplers: diffusers' schedulers as an independent reference, orders of convergence, closed forms, keyed noise."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    KarrasVeScheduler,
)
from torch import Tensor

from diffprobe.config import processes, samplers
from diffprobe.diffusion.build import Sampler, build_process, build_sampler
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Denoised, Process
from diffprobe.diffusion.samplers import Trajectory, heun
from diffprobe.runtime.located import located

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


def estimate(process: Process, x: Tensor, level: Level, net=network) -> Denoised:
    return process.denoise(net, x, level.of(x))


def built(sampler: dict, process: dict) -> Sampler:
    return build_sampler(samplers.Sampler.member(sampler), processes.Process.member(process))


def drawn(sampler: dict, process: dict, net=network) -> Tensor:
    made = built(sampler, process)
    return made.run(partial(estimate, made.process, net=net), START, noise)


def close(images: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Within rounding: their state is float32, ours float64."""
    torch.testing.assert_close(images, expected, atol=tolerance, rtol=tolerance)


def ddpm(steps: int = 1000, time_input: str = "index") -> dict:
    return {"kind": "ddpm", "steps": steps, "beta_min": 1e-4, "beta_max": 0.02, "time_input": time_input}


# --- the same trajectory as diffusers' schedulers, for the same network and the same noise


@pytest.mark.parametrize("steps", [None, 20], ids=["all steps", "every tenth"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance", ["large", "small"])
def test_ancestral_sampling_is_that_of_diffusers(variance, clip, steps, monkeypatch):
    scheduler = DDPMScheduler(200, variance_type=f"fixed_{variance}", clip_sample=clip)
    scheduler.set_timesteps(steps or 200)
    x, made = START, iter(range(200))
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise(next(made)))
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.float().expand(3))[0], t, x).prev_sample
    close(drawn(DRAWN | {"kind": "ddpm", "steps": steps, "variance": variance, "clip": clip}, ddpm(200)), x)


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


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddaes_ddim_is_that_of_diffusers_with_a_beta_too_many(eta):
    """DDAE's T + 1 betas, the first of which it steps to at the end; t/T is the network's input."""
    betas = torch.linspace(1e-4, 0.02, 1001, dtype=torch.float64).tolist()
    scheduler = DDIMScheduler(1001, trained_betas=betas, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(100)
    x = START
    for i, t in enumerate(scheduler.timesteps):
        fresh = noise(i) if i < 99 else torch.zeros(SHAPE)  # their last step adds no noise
        more = {"variance_noise": fresh} if eta else {}
        out = network(x, t.expand(3) / 1000)[0]
        x = scheduler.step(out, t, x, eta=eta, use_clipped_model_output=True, **more).prev_sample
    sampler = DRAWN | {"kind": "ddim", "steps": 100, "eta": eta, "table": "ddae", "clip": True}
    close(drawn(sampler, ddpm(time_input="fraction")), x)


def test_ddaes_ddim_with_noise_has_their_value():
    """Eta 0.5: their rule in float64, which lowers the share of the predicted noise in every step and adds fresh noise
    in all but the last, and the value that it gives.
    """
    beta = torch.linspace(1e-4, 0.02, 1001, dtype=torch.float64)
    abar = torch.cumprod(1 - beta, 0).tolist()
    x = START.double()
    times = [*range(991, 0, -10), 0]
    for i, (t, after) in enumerate(pairwise(times)):
        a, b = abar[t], abar[after]
        out = network(x.float(), torch.full((3,), t / 1000))[0].double()
        clean = ((x - math.sqrt(1 - a) * out) / math.sqrt(a)).clamp(-1, 1)
        eps = (x - math.sqrt(a) * clean) / math.sqrt(1 - a)
        c1 = 0.5 * math.sqrt((1 - a / b) * (1 - b) / (1 - a))
        x = math.sqrt(b) * clean + math.sqrt(1 - b - c1**2) * eps + (c1 * noise(i).double() if after else 0)
    sampler = DRAWN | {"kind": "ddim", "steps": 100, "eta": 0.5, "table": "ddae", "clip": True}
    actual = drawn(sampler, ddpm(time_input="fraction"))
    close(actual, x.float(), 2e-5)
    assert actual[0, 0, 0, :4].tolist() == pytest.approx([-1.017196, 1.009287, -0.930322, -1.017092], abs=1e-4)


@pytest.mark.parametrize("rho", [7.0, 3.0])
def test_euler_of_edm_is_that_of_diffusers(rho):
    """At the same levels, too."""
    scheduler = EDMEulerScheduler(rho=rho)
    scheduler.set_timesteps(20)
    levels = built(EULER | {"rho": rho}, {"kind": "edm"}).levels
    torch.testing.assert_close(torch.tensor([level.sigma for level in levels]), scheduler.sigmas, rtol=1e-5, atol=0)
    x = START * 80
    for t in scheduler.timesteps:
        out = network(scheduler.scale_model_input(x, t), t.expand(3))[0]
        x = scheduler.step(out, t, x).prev_sample
    close(drawn(EULER | {"rho": rho}, {"kind": "edm"}), x)


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
    process = build_process(processes.Process.member({"kind": "flow"}))
    times = [float(scheduler.sigmas[0]), *map(float, scheduler.sigmas[1:-1:2]), 0.0]
    path = Trajectory(partial(estimate, process), [process.at(t) for t in times], noise, process.level)
    close(heun(path, START.double(), samplers.Sampler.member(HEUN)).float(), x)


@pytest.mark.parametrize("clip", [True, False])
def test_heun_of_edm_is_that_of_diffusers(clip):
    """At our levels, which its schedule cannot make. Each but the first is evaluated twice."""
    process = build_process(processes.Process.member({"kind": "edm"}))
    levels = process.schedule(18)
    scheduler = HeunDiscreteScheduler(prediction_type="sample", clip_sample=clip)
    scheduler.set_timesteps(18)
    scheduler.sigmas = torch.tensor([level.sigma for level in levels for _ in (1, 2)][1:-1])
    scheduler.timesteps = scheduler.sigmas[:-1]
    x = START * 80
    for sigma in scheduler.timesteps:
        x = scheduler.step(estimate(process, x, process.level(float(sigma))).x0, sigma, x).prev_sample
    close(drawn(HEUN | {"clip": clip}, {"kind": "edm"}), x)


@pytest.mark.parametrize("churn", [5.0, 40.0], ids=["by steps", "at most sqrt(2) - 1"])
def test_churn_of_edm_is_that_of_diffusers(churn, monkeypatch):
    """Karras et al. 2022, algorithm 2, at our levels. Noise is drawn at each step, used from 0.05 to 50."""
    monkeypatch.setattr("diffusers.schedulers.deprecated.scheduling_karras_ve.randn_tensor", lambda *_, **__: fresh)
    process = build_process(processes.Process.member({"kind": "edm"}))
    levels = process.schedule(18)
    scheduler = KarrasVeScheduler(s_churn=churn, s_min=0.05, s_max=50.0, s_noise=1.007)
    scheduler.set_timesteps(18)

    def output(x: Tensor, sigma: float) -> Tensor:
        """What it takes for the network's: the image is x + sigma times that."""
        return (estimate(process, x.float(), process.level(sigma)).x0 - x) / sigma

    x = START.double() * 80
    for i, (now, after) in enumerate(pairwise(level.sigma for level in levels)):
        fresh = noise(i).double()
        raised, sigma = scheduler.add_noise_to_input(x, now)
        out = output(raised, sigma)
        step = scheduler.step(out, sigma, after, raised)
        x = step.prev_sample
        if after:
            x = scheduler.step_correct(output(x, after), sigma, after, raised, x, step.derivative).prev_sample
    close(drawn(HEUN | {"churn": churn, "churn_min": 0.05, "churn_max": 50.0}, {"kind": "edm"}), x.float(), 1e-5)


# --- closed forms: for data N(0, s^2) the ideal denoiser is linear, and the flow scales x as the deviation grows

S = 0.5


def ideal(x: Tensor, level: Level) -> Denoised:
    return Denoised(x * (level.alpha * S**2 / (level.alpha**2 * S**2 + level.sigma**2)))


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
        made = built(sampler | {"steps": steps}, process)
        levels = [level for level in made.levels if level.sigma > 0.0999]  # t = 0.1 of flow matching
        start = torch.full((1, 1, 1, 1), deviation(levels[0]), dtype=torch.float64)
        path = Trajectory(ideal, levels, noise, made.process.level, dtype=torch.float64)
        return abs(float(located(made.settings.build)(path, start, made.settings)) - deviation(levels[-1]))

    assert math.log2(error(50) / error(100)) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize(
    "sampler",
    [
        {"kind": "ddpm", "steps": None, "variance": "large"},
        {"kind": "ddpm", "steps": None, "variance": "small"},
        {"kind": "ddim", "steps": 250, "eta": 1.0},
    ],
    ids=["ddpm, large", "ddpm, small", "ddim"],
)
def test_noisy_samplers_end_with_the_variance_of_the_data(sampler):
    made = built(DRAWN | sampler, ddpm())
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(20_000, 1, 1, 1, generator=draws)
    images = made.run(ideal, start, lambda _: torch.randn(20_000, 1, 1, 1, generator=draws))
    assert images.std() == pytest.approx(S, rel=0.03)


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
    made, seen = built(sampler, process), []
    denoise = partial(estimate, made.process)
    together = made.run(denoise, START, noise, lambda clean, x, level: seen.append((x, level.sigma)))
    alone = [made.run(denoise, START[i : i + 1], lambda step, i=i: noise(step)[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-5)
    assert len(seen) == len(made.levels) - 1 == sampler["steps"]
    assert torch.equal(seen[0][0].float(), made.process.start(START, made.levels[0]))


@pytest.mark.parametrize(
    ("sampler", "process"),
    [(DRAWN | {"kind": "ddim", "steps": 5, "eta": 0.0}, ddpm()), (HEUN, {"kind": "edm"}), (EULER, {"kind": "flow"})],
    ids=["ddim", "heun", "euler"],
)
def test_deterministic_samplers_draw_no_noise(sampler, process):
    made = built(sampler, process)
    made.run(partial(estimate, made.process), START, lambda step: pytest.fail(f"noise at step {step}"))


def test_clipped_estimates_stay_within_the_pixels():
    loud = lambda x, c, *_: (3 * network(x, c)[0], {})  # noqa: E731
    for sampler, process in ((DRAWN | {"kind": "ddim", "steps": 10, "eta": 0.0}, ddpm()), (HEUN, {"kind": "edm"})):
        assert drawn(sampler, process, net=loud).abs().max() > 1
        assert drawn(sampler | {"clip": True}, process, net=loud).abs().max() <= 1 + 1e-6


def test_ddaes_table_leaves_noise_in_the_image():
    """Its last level is no clean image: the noise that the network says is there stays with a deviation of 0.01."""
    sampler = DRAWN | {"kind": "ddim", "steps": 100, "eta": 0.0, "clip": True}
    table, exact = (built(sampler | {"table": name}, ddpm()) for name in ("ddae", "exact"))
    assert exact.levels[-1] == (1.0, 0.0, exact.levels[-1].c_noise)
    assert table.levels[-1].sigma == pytest.approx(0.01) and table.levels[-1].alpha ** 2 == pytest.approx(0.9999)
    assert [round(level.c_noise) + 1 for level in exact.levels[:-1]] == list(range(991, 0, -10))
    assert table.levels[-3].alpha ** 2 == pytest.approx(0.99749, abs=5e-6)  # t = 11, where training has 0.99781
    black = lambda x, _: Denoised(torch.zeros_like(x))  # noqa: E731
    assert table.run(black, START, noise).std() == pytest.approx(0.01, rel=0.05)
    assert not exact.run(black, START, noise).any()
