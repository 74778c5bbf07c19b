"""EDM: the identities of its preconditioning, its level grid, the order of its sampler, its loss."""

import math

import pytest
import torch

from diffprobe.data.pixels import to_float, to_uint8
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.samplers import heun
from diffprobe.runtime.keyed import Draws

PROCESS = EDM()


def test_level_grid_of_the_paper():
    """The 18 levels of Karras et al. 2022, eq. 5, as DDAE lists them."""
    listed = [
        0.002,
        0.007528,
        0.02293,
        0.05995,
        0.1395,
        0.2964,
        0.5853,
        1.088,
        1.923,
        3.257,
        5.315,
        8.401,
        12.91,
    ]
    listed += [19.35, 28.37, 40.79, 57.59, 80]
    schedule = PROCESS.schedule(18)
    assert schedule[-1] == 0
    torch.testing.assert_close(schedule[:-1].flip(0), torch.tensor(listed, dtype=torch.float64), rtol=5e-4, atol=0)


def test_level_names_tell_levels_apart():
    assert [PROCESS.level(s).name for s in (1e-5, 0.14, 0.1395, 80.0)] == ["1e-05", "0.14", "0.1395", "80"]
    assert PROCESS.level(1.0).log_snr == 0
    assert PROCESS.level(0.5).c_noise == pytest.approx(math.log(0.5) / 4)


def test_preconditioning_gives_the_network_unit_variance():
    """Input and training target of the raw network have unit variance for data N(0, sigma_data^2) (eq. 115, 120)."""
    x = PROCESS.sigma_data * torch.randn(200_000, 1, 1, 1)
    for level in (0.01, 0.5, 20.0):
        sigma = torch.full((len(x),), level)
        noisy = PROCESS.perturb(x, sigma, torch.randn_like(x))
        seen = {}

        def network(inputs, c_noise, cond, taps, features_only, seen=seen):
            seen["input"] = inputs
            return torch.zeros_like(inputs), {}

        skip, _ = PROCESS.denoise(network, noisy, sigma)
        c_out = level * PROCESS.sigma_data / math.hypot(level, PROCESS.sigma_data)
        assert seen["input"].std() == pytest.approx(1, abs=0.01)
        assert ((x - skip) / c_out).std() == pytest.approx(1, abs=0.01)


def test_denoiser_keeps_a_clean_image():
    x = torch.randn(4, 1, 8, 8)
    out, _ = PROCESS.denoise(lambda inputs, *_: (torch.randn_like(inputs), {}), x, torch.full((4,), 1e-6))
    torch.testing.assert_close(out, x, atol=1e-4, rtol=0)


def test_untrained_loss_is_one_and_depends_on_the_keys_alone():
    """A network that says 0 has loss about 1 on data of variance sigma_data^2, whatever the level."""
    x = PROCESS.sigma_data * torch.randn(4096, 1, 4, 4)
    draws = Draws(0, torch.arange(4096))
    silent = lambda inputs, *_: (torch.zeros_like(inputs), {})  # noqa: E731
    loss = PROCESS.loss(silent, x, draws)
    assert loss == pytest.approx(1, abs=0.05)
    assert PROCESS.loss(silent, x, Draws(0, torch.arange(4096))) == loss
    assert PROCESS.loss(silent, x, Draws(1, torch.arange(4096))) != loss


def test_heun_is_of_second_order_on_a_gaussian():
    """For data N(0, s^2) the ideal denoiser is linear and the flow known: x scales by sqrt((s^2 + sigma^2))."""
    s, process = 0.5, EDM(sigma_min=0.1, sigma_max=10.0)
    denoise = lambda x, sigma: x * (s**2 / (s**2 + sigma[:, None, None, None] ** 2))  # noqa: E731
    start = torch.full((1, 1, 1, 1), 10.0, dtype=torch.float64)

    def error(steps: int) -> float:
        sigmas = process.schedule(steps)[:-1]  # stop at sigma_min: the Euler step to 0 is of first order
        exact = 10.0 * math.hypot(s, 0.1) / math.hypot(s, 10.0)
        return abs(float(heun(denoise, start, sigmas)) - exact)

    assert math.log2(error(32) / error(64)) == pytest.approx(2, abs=0.25)


def test_bytes_and_floats_are_inverse():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).amin() == -1 and to_float(every).amax() == 1
