"""Processes: their tables, the identities of their scalings, their losses; the estimate of the clean image."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprobe.config.processes import ddpm
from diffprobe.config.samplers.ddim import DDIM
from diffprobe.config.schedules import ddae_abar, spaced
from diffprobe.data.pixels import to_float, to_uint8
from diffprobe.diffusion.build import build_process
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.flow import Flow
from diffprobe.diffusion.levels import Levels
from diffprobe.diffusion.process import Process, perturb
from diffprobe.runtime.keyed import Draws

PROCESSES = {"edm": EDM(), "ddpm": DDPM(), "flow": Flow()}


def silent(x, *_):
    """A network that says 0."""
    return torch.zeros_like(x), {}


# --- golden values


def test_edm_levels_of_the_paper():
    """The 18 levels of Karras et al. 2022, eq. 5, as DDAE lists them."""
    listed = [0.002, 0.007528, 0.02293, 0.05995, 0.1395, 0.2964, 0.5853, 1.088, 1.923, 3.257, 5.315, 8.401, 12.91]
    listed += [19.35, 28.37, 40.79, 57.59, 80]
    sigmas = [level.sigma for level in EDM().schedule(18)]
    assert sigmas[-1] == 0
    assert sigmas[-2::-1] == pytest.approx(listed, rel=5e-4)


def test_ddpm_levels_of_the_paper():
    """abar and sigma/alpha of the linear schedule, as the specification of DDAE lists them."""
    abar = {1: 0.9999, 11: 0.997807, 21: 0.993735, 501: 0.0777967, 1000: 4.03583e-5}
    ratios = {1: 0.0100, 11: 0.0469, 21: 0.0794, 51: 0.176, 101: 0.342, 1000: 157.4}
    process = DDPM()
    for t, value in abar.items():
        assert process.at(t).alpha ** 2 == pytest.approx(value, rel=1e-5)
    for t, value in ratios.items():
        assert process.at(t).ratio == pytest.approx(value, rel=5e-3)
    shifted = ddae_abar(1000, 1e-4, 0.02)
    assert shifted[0] == pytest.approx(0.9999) and shifted[11] == pytest.approx(0.99749, abs=5e-6)


@pytest.mark.parametrize(
    ("schedule", "abar"),
    [
        ("linear", [0.9999, 0.998, 0.897, 0.524, 0.0786, 0.00335, 2.8e-4, 4.9e-5, 4.2e-5, 4.0e-5]),
        ("cosine", [0.99996, 0.9994, 0.972, 0.847, 0.494, 0.144, 0.0241, 2.4e-4, 2.4e-6, 2.4e-9]),
        ("inverted", [0.980, 0.936, 0.794, 0.664, 0.496, 0.328, 0.198, 0.0563, 0.0123, 1.23e-5]),
    ],
)
def test_beta_schedules_by_name(schedule, abar):
    """As the specification of SODA lists them; no beta is above 0.999."""
    process = DDPM(beta_schedule=schedule)
    for t, value in zip((1, 10, 100, 250, 500, 750, 900, 990, 999, 1000), abar, strict=True):
        assert process.abar[t] == pytest.approx(value, rel=0.02, abs=1e-9)
    assert min(after / now for now, after in pairwise(process.abar)) >= 0.001 - 1e-12
    chosen = ddpm.DDPM(kind="ddpm", beta_schedule=schedule)
    assert chosen.ratios == process.ratios and build_process(chosen).abar == process.abar


def test_betas_belong_to_linear_schedules():
    inverted = ddpm.DDPM(kind="ddpm", beta_schedule="inverted", beta_max=0.03)
    assert list(inverted.problems("process")) == [("process.beta_max", 0.03, "0.02, since only linear betas have it")]
    cosine = ddpm.DDPM(kind="ddpm", beta_schedule="cosine")
    refused = DDIM(kind="ddim", table="ddae").problems("a", cosine)
    assert [key for key, *_ in refused] == ["a.table"] and not list(DDIM(kind="ddim").problems("a", cosine))
    assert [key for key, *_ in DDIM(kind="ddim", steps=1).problems("a", cosine)] == ["a.steps"]  # of noise, to noise
    for beta_max, keys in ((0.02, []), (0.35, ["p.beta_max"]), (0.95, ["p.beta_max"])):
        assert [key for key, *_ in ddpm.DDPM(kind="ddpm", beta_max=beta_max).problems("p")] == keys


@pytest.mark.parametrize(
    ("spacing", "count", "taken", "total", "ends"),
    [
        ("even", 30, 30, 14_520, [967, 934, 901, 67, 34, 1]),
        ("even", 150, 150, 74_600, [994, 987, 981, 14, 7, 1]),
        ("even", 250, 250, 124_750, [997, 993, 989, 9, 5, 1]),
        ("even", 400, 400, 199_800, [998, 996, 993, 6, 3, 1]),
        ("ddae", 30, 31, 15_376, [991, 958, 925, 67, 34, 1]),
        ("ddae", 150, 167, 83_333, [997, 991, 985, 13, 7, 1]),
        ("ddae", 250, 250, 124_750, [997, 993, 989, 9, 5, 1]),
        ("ddae", 400, 500, 250_000, [999, 997, 995, 5, 3, 1]),
        ("dit", 30, 30, 15_015, [1000, 966, 931, 70, 35, 1]),
        ("dit", 150, 150, 75_075, [1000, 993, 987, 14, 8, 1]),
        ("dit", 250, 250, 124_875 + 250, [1000, 996, 992, 9, 5, 1]),
        ("dit", 400, 400, 200_200, [1000, 997, 995, 6, 4, 1]),
        ("ddim", 50, 50, 24_550, [981, 961, 941, 41, 21, 1]),
        ("ddim", 250, 250, 124_750, [997, 993, 989, 9, 5, 1]),
        ("ddim", 334, 334, 167_167, [1000, 997, 994, 7, 4, 1]),
        ([10, 15, 20], 45, 45, 25_825 + 45, [1000, 983, 965, 75, 38, 1]),
        ([250], 250, 250, 124_875 + 250, [1000, 996, 992, 9, 5, 1]),
    ],
)
def test_steps_are_spaced_as_published(spacing, count, taken, total, ends):
    """Steps of 1 .. 1,000: DDAE's code takes every (1000 // count)-th, DiT's counts from 0 and includes both ends."""
    steps = spaced(count, 1000, spacing)
    assert (len(steps), sum(steps), [*steps[:3], *steps[-3:]]) == (taken, total, ends)
    assert steps == sorted(set(steps), reverse=True)
    levels = DDPM().schedule(count, spacing=spacing)
    assert [level.c_noise for level in levels[:-1]] == [t - 1 for t in steps] and levels[-1].sigma == 0


@settings(deadline=None)
@given(st.integers(2, 1500), st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_sections_have_their_counts_and_both_ends(total, counts):
    """Of equal sections, the first ones longer by one where the steps do not divide."""
    sizes = [total // len(counts) + (i < total % len(counts)) for i in range(len(counts))]
    if any(count > size for count, size in zip(counts, sizes, strict=True)):
        with pytest.raises(ValueError, match="at most"):
            spaced(sum(counts), total, counts)
        return
    steps, first = sorted(spaced(sum(counts), total, counts)), 1
    assert steps == sorted(set(steps))
    for count, size in zip(counts, sizes, strict=True):
        inside = [step for step in steps if first <= step < first + size]
        assert len(inside) == count and inside[0] == first and (count == 1 or inside[-1] == first + size - 1)
        first += size


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_strides_that_take_a_number_of_steps(total, count):
    """A plain search finds the same stride or none."""
    strides = [s for s in range(1, total + 1) if len(range(0, total, s)) == count]
    if strides:
        assert spaced(count, total, "ddim") == [1 + t for t in reversed(range(0, total, strides[0]))]
    elif count <= total:
        with pytest.raises(ValueError, match="no stride takes"):
            spaced(count, total, "ddim")


def test_level_names_tell_levels_apart():
    assert [EDM().level(s).name for s in (1e-5, 0.14, 0.1395, 80.0)] == ["1e-05", "0.14", "0.1395", "80"]
    for levels in (EDM().schedule(1000), DDPM().schedule(1000), Flow().schedule(1000)):
        assert len({level.name for level in levels}) == 1001
    assert EDM().level(1.0).log_snr == 0
    assert EDM().level(0.5).c_noise == pytest.approx(math.log(0.5) / 4)
    assert Flow().level(1.0) == (0.5, 0.5, 0.5) and math.isinf(Flow().at(1.0).ratio)


@settings(deadline=None)
@given(st.integers(1, 999))
def test_ddpm_takes_the_nearest_step(t):
    """In log-SNR: between two steps the border is the geometric mean of their sigma/alpha."""
    process = DDPM(time_input="fraction")
    level, noisier = process.at(t), process.at(t + 1)
    border = math.sqrt(level.ratio * noisier.ratio)
    assert process.level(border * 0.9999) == level and process.level(border * 1.0001) == noisier
    assert level.alpha**2 + level.sigma**2 == pytest.approx(1) and level.c_noise == t / 1000
    assert DDPM().at(t).c_noise == t - 1


# --- identities


@settings(deadline=None)
@given(kind=st.sampled_from(list(PROCESSES)), ratio=st.floats(0.011, 79), seed=st.integers(0, 99))
def test_an_all_knowing_network_gives_the_image_back(kind, ratio, seed):
    """`denoise` undoes `perturb` for the network that knows noise, velocity or EDM's target."""
    process, generator = PROCESSES[kind], torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, 4, 3, 2, 2, generator=generator)
    level = process.level(ratio)
    d = 0.5
    c_skip, c_out = d**2 / (level.sigma**2 + d**2), level.sigma * d / math.hypot(level.sigma, d)
    noisy = perturb(x, level.of(x), noise)
    targets = {"ddpm": noise, "flow": noise - x, "edm": (x - c_skip * noisy) / c_out}
    clean = process.denoise(lambda *_: (targets[kind], {}), noisy, level.of(x)).x0
    torch.testing.assert_close(clean, x, atol=2e-5 * max(1, level.ratio), rtol=0)


def test_edm_gives_the_network_unit_variance():
    """Input and training target of the raw network have unit variance for data N(0, sigma_data^2) (eq. 115, 120)."""
    process = EDM()
    x = process.sigma_data * torch.randn(200_000, 1, 1, 1)
    for sigma in (0.01, 0.5, 20.0):
        level = process.level(sigma)
        noisy = perturb(x, level.of(x), torch.randn_like(x))
        seen = {}

        def network(inputs, c_noise, cond, taps, features_only, seen=seen):
            seen["input"] = inputs
            return torch.zeros_like(inputs), {}

        skip = process.denoise(network, noisy, level.of(x)).image
        c_out = sigma * process.sigma_data / math.hypot(sigma, process.sigma_data)
        assert seen["input"].std() == pytest.approx(1, abs=0.01)
        assert ((x - skip) / c_out).std() == pytest.approx(1, abs=0.01)


def test_edm_keeps_a_clean_image():
    x, process = torch.randn(4, 1, 8, 8), EDM()
    clean = process.denoise(lambda inputs, *_: (torch.randn_like(inputs), {}), x, process.level(1e-6).of(x)).x0
    torch.testing.assert_close(clean, x, atol=1e-4, rtol=0)


# --- losses


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_the_loss_of_an_all_knowing_network_is_zero(process: Process):
    x, draws = torch.randn(16, 3, 4, 4), Draws(0, torch.arange(16))
    noise = draws.normal("noise", (3, 4, 4))

    def knowing(_, c, *__):
        sigma = (4 * c).exp()[:, None, None, None]
        edm = (sigma / 0.5 * x - 0.5 * noise) / (sigma**2 + 0.25).sqrt()  # (x - c_skip x_noisy) / c_out, simplified
        return {EDM: edm, DDPM: noise, Flow: noise - x}[type(process)], {}

    assert process.loss(knowing, x, draws) < 1e-8


@pytest.mark.parametrize(
    ("process", "expected"),
    [(EDM(), 1.0), (EDM(reduction="sum"), 16.0), (DDPM(), 1.0), (Flow(), 1.25), (Flow("logit_normal"), 1.25)],
)
def test_the_loss_of_a_silent_network(process: Process, expected):
    """On data of variance 0.25: EDM's target and the noise have variance 1, the velocity 1 + 0.25."""
    x = 0.5 * torch.randn(4096, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loss = process.loss(silent, x, Draws(0, torch.arange(4096)))
    assert loss == pytest.approx(expected, rel=0.05)
    assert process.loss(silent, x, Draws(0, torch.arange(4096))) == loss
    assert process.loss(silent, x, Draws(1, torch.arange(4096))) != loss


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_an_images_loss_hangs_on_its_own_draws(process: Process):
    """The loss of a batch is the mean over its parts, so that it may be divided at will."""
    x, rows = torch.randn(8, 2, 4, 4), torch.arange(100, 108)
    network = lambda x, c, *_: (torch.tanh(x + c[:, None, None, None]), {})  # noqa: E731
    parts = [process.loss(network, x[i : i + 4], Draws(0, rows[i : i + 4])) for i in (0, 4)]
    assert sum(parts) / 2 == pytest.approx(float(process.loss(network, x, Draws(0, rows))), rel=1e-5)


def seen_levels(process: Process, n: int = 20_000) -> torch.Tensor:
    """The c_noise that a network is given in training, (n,)."""
    seen = []

    def network(x, c, *_):
        seen.append(c)
        return torch.zeros_like(x), {}

    process.loss(network, torch.zeros(n, 1, 1, 1), Draws(0, torch.arange(n)))
    return seen[0]


def test_levels_drawn_in_training():
    steps = seen_levels(DDPM(steps=10))
    inputs, counts = steps.unique(return_counts=True)
    assert inputs.tolist() == list(range(10)) and counts.tolist() == pytest.approx([2000] * 10, rel=0.1)
    assert seen_levels(DDPM(steps=10, time_input="fraction")).unique().tolist() == pytest.approx(
        [t / 10 for t in range(1, 11)]
    )
    log_sigma = 4 * seen_levels(EDM(p_mean=-1.0, p_std=0.7))
    assert log_sigma.mean() == pytest.approx(-1.0, abs=0.02) and log_sigma.std() == pytest.approx(0.7, abs=0.02)
    t = seen_levels(Flow())
    assert t.min() > 0 and t.max() < 1 and t.mean() == pytest.approx(0.5, abs=0.01)
    assert t.std() == pytest.approx(math.sqrt(1 / 12), abs=0.01)
    logit = seen_levels(Flow("logit_normal", t_mean=0.5, t_std=0.8)).logit()
    assert logit.mean() == pytest.approx(0.5, abs=0.02) and logit.std() == pytest.approx(0.8, abs=0.02)


def test_levels_of_a_batch_are_those_of_each_image():
    process, x = DDPM(), torch.zeros(2, 1, 1, 1)
    table = process.levels(x.device)
    for t in (1, 500, 1000):
        for many, one in zip(table, process.at(t).of(x), strict=True):
            assert many[t - 1] == one[0]
    assert isinstance(process.at(5).of(x), Levels)


# --- bytes


def test_bytes_and_floats_are_inverse():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).amin() == -1 and to_float(every).amax() == 1
