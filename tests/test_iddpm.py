"""DDPM with a learned variance: the hybrid loss, its gradient and ancestral sampling against the equations of Nichol &
Dhariwal 2021, written out in float64.
"""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffprobe.config import networks, processes, samplers
from diffprobe.diffusion.build import build_sampler
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.iddpm import IDDPM
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import perturb
from diffprobe.networks.build import build
from diffprobe.runtime.keyed import Draws

T = 1000
BETA = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
ABAR = torch.cumprod(1 - BETA, 0)  # of steps 0 .. T - 1
SHAPE = (2, 3, 4)  # C, H, W


def network(x: Tensor, c: Tensor, *_: object) -> tuple[Tensor, dict]:
    """Twice the channels: a smooth function for the noise, and one from -1.5 to 1.5 for the variance."""
    mixed = torch.tanh(0.7 * x + 0.2 * x.roll(1, 3) + torch.sin(c / 7)[:, None, None, None])
    return torch.cat([mixed, 1.5 * torch.cos(3 * x + c[:, None, None, None])], dim=1), {}


def posterior(step: int) -> tuple[float, float, float]:
    """Of q(x_{t-1} | x_t, x_0): the weights of x_0 and x_t in its mean, and its variance (eq. 10 to 12)."""
    before = float(ABAR[step - 1]) if step else 1.0
    a, beta = float(ABAR[step]), float(BETA[step])
    variance = beta * (1 - before) / (1 - a)
    return math.sqrt(before) * beta / (1 - a), math.sqrt(1 - beta) * (1 - before) / (1 - a), variance


def log_variance(step: int, values: Tensor) -> Tensor:
    """Eq. 15 with v = (output + 1) / 2; the first step's posterior variance is replaced by the second's."""
    v = (values + 1) / 2
    return v * math.log(BETA[step]) + (1 - v) * math.log(posterior(max(step, 1))[2])


def cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def bound(step: int, x0: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """The term of L_vlb of one image (C, H, W) in bits per dimension, a scalar."""
    eps, values = output.chunk(2, dim=0)
    of_x0, of_x, variance = posterior(step)
    a = float(ABAR[step])
    estimate = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
    mean, logvar = of_x0 * estimate + of_x * x, log_variance(step, values)
    if step:
        true = of_x0 * x0 + of_x * x
        kl = 0.5 * (logvar - math.log(variance) - 1 + (variance + (true - mean) ** 2) / logvar.exp())
        return kl.mean() / math.log(2)
    deviation = (0.5 * logvar).exp()
    above, below = cdf((x0 + 1 / 255 - mean) / deviation), cdf((x0 - 1 / 255 - mean) / deviation)
    inside = torch.where(x0 > 0.999, 1 - below, torch.where(x0 < -0.999, above, above - below))
    return -inside.clamp(min=1e-12).log().mean() / math.log(2)


def hybrid(x0: Tensor, draws: Draws, net) -> tuple[Tensor, Tensor]:
    """L_simple + 0.001 L_vlb (eq. 16), float64, with the noise detached in the bound; and the steps (B,)."""
    steps = (draws.uniform("t") * T).long()
    noise = draws.normal("noise", tuple(x0.shape[1:])).double()
    a = ABAR[steps][:, None, None, None]
    x = a.sqrt() * x0 + (1 - a).sqrt() * noise
    output = net(x, steps.double())[0]
    eps, values = output.chunk(2, dim=1)
    frozen = torch.cat([eps.detach(), values], dim=1)
    bounds = [bound(int(s), *parts) for s, *parts in zip(steps, x0, x, frozen, strict=True)]
    return (eps - noise).square().mean() + 1e-3 * T * torch.stack(bounds).mean(), steps


class AtSteps:
    """Draws whose steps are chosen and whose noise is keyed."""

    def __init__(self, steps: list[int]) -> None:
        self.t, self.keyed = torch.tensor(steps), Draws(3, torch.arange(len(steps)))

    def uniform(self, purpose: str) -> Tensor:
        assert purpose == "t"
        return (self.t + 0.5) / T

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return self.keyed.normal(purpose, shape)


@pytest.mark.parametrize("steps", [[0], [1], [2], [500], [999], [0, 0, 1, 40, 121, 999]], ids=str)
def test_the_hybrid_loss_and_its_gradient_are_those_of_the_paper(steps: list[int]) -> None:
    """Images with values at both edges, where the outermost bins are."""
    draws = AtSteps(steps)
    x = torch.randn(len(steps), *SHAPE, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    offsets = torch.zeros(len(steps), 2 * SHAPE[0], *SHAPE[1:], requires_grad=True)
    loss = IDDPM().loss(lambda x, c, *_: (network(x, c)[0] + offsets, {}), x, draws)
    [gradient] = torch.autograd.grad(loss, offsets)
    plain, _ = hybrid(x.double(), draws, lambda x, c: (network(x, c)[0] + offsets.double(), {}))
    [expected] = torch.autograd.grad(plain, offsets)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=2e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_bound_trains_the_variance_alone() -> None:
    """Its gradient is zero in the channels of the noise: there the loss has the gradient of the squared error."""
    x, draws = torch.randn(16, *SHAPE), Draws(0, torch.arange(16))
    outputs: list[Tensor] = []

    def watched(x: Tensor, c: Tensor, *_: object) -> tuple[Tensor, dict]:
        outputs.append(network(x, c)[0].requires_grad_())
        return outputs[-1], {}

    IDDPM().loss(watched, x, draws).backward()
    noise = draws.normal("noise", SHAPE)
    eps, _ = outputs[0].detach().chunk(2, dim=1)
    of_noise, of_variance = outputs[0].grad.chunk(2, dim=1)
    torch.testing.assert_close(of_noise, 2 * (eps - noise) / noise.numel())
    assert (of_variance != 0).all()
    DDPM().loss(lambda *a: (watched(*a)[0].chunk(2, dim=1)[0], {}), x, draws).backward()  # the same levels and noise
    torch.testing.assert_close(of_noise, outputs[1].grad.chunk(2, dim=1)[0])


def test_without_weight_the_loss_is_that_of_ddpm() -> None:
    x, draws = torch.randn(8, *SHAPE), Draws(1, torch.arange(8))
    alone = DDPM().loss(lambda x, c, *_: (network(x, c)[0].chunk(2, dim=1)[0], {}), x, draws)
    assert IDDPM(vlb_weight=0.0).loss(network, x, draws) == alone


def test_a_network_of_the_true_posterior_has_no_bound() -> None:
    """Beyond the first step: the KL of a distribution from itself."""
    x, draws = torch.randn(4, *SHAPE), AtSteps([1, 50, 400, 999])
    noise = draws.normal("noise", SHAPE)
    knowing = lambda *_: (torch.cat([noise, -torch.ones_like(noise)], dim=1), {})  # noqa: E731
    assert IDDPM().loss(knowing, x, draws) == pytest.approx(0, abs=1e-6)


def test_a_new_transformer_begins_with_a_loss_of_one_and_the_mean_of_both_variances() -> None:
    """Its output is zero: the noise's variance, plus a bound that is small at nearly all steps."""
    settings_ = networks.Network.member({"kind": "dit", "width": 16, "depth": 1, "heads": 2})
    process = processes.Process.member({"kind": "iddpm"})
    shape = process.output_shape(4)
    assert shape == {"out_channels": 8} and processes.Process.member({"kind": "ddpm"}).output_shape(4) == {}
    module = build(settings_, image_channels=4, **shape)
    x = torch.randn(256, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    draws = Draws(0, torch.arange(256))
    with torch.no_grad():
        assert IDDPM(vlb_weight=0.0).loss(module, x, draws) == pytest.approx(1, abs=0.02)
        level = IDDPM().at(500).of(x)
        denoised = IDDPM().denoise(module, x, level)
    assert denoised.image.shape == x.shape and denoised.variance_share.unique().tolist() == [0.5]
    torch.testing.assert_close(denoised.image, x / level.alpha[0])


# --- sampling

START = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
LEARNED = {"kind": "ddpm", "variance": "learned"}


def noise(step: int) -> Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1000 + step))


def drawn(sampler: dict, process: dict, net=network) -> Tensor:
    made = build_sampler(samplers.Sampler.member(sampler), processes.Process.member(process))
    return made.run(partial(lambda x, level: made.process.denoise(net, x, level.of(x))), START, noise)


def plain_ancestral(steps: list[int], share: float | None = None) -> Tensor:
    """Ancestral sampling over some of the steps with betas of their own (eq. 19 for them), float64. `share`: v instead
    of the network's.
    """
    x = START.double()
    kept = [float(ABAR[s]) for s in steps]  # rising steps, falling abar
    for i in reversed(range(len(steps))):
        a, before = kept[i], kept[i - 1] if i else 1.0
        beta = 1 - a / before
        output = network(x.float(), torch.full((2,), float(steps[i])))[0].double()
        eps, values = output.chunk(2, dim=1)
        x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        x = math.sqrt(before) * beta / (1 - a) * x0 + math.sqrt(a / before) * (1 - before) / (1 - a) * x
        if i:
            v = (values + 1) / 2 if share is None else torch.full_like(values, share)
            logvar = v * math.log(beta) + (1 - v) * math.log(beta * (1 - before) / (1 - a))
            x = x + (0.5 * logvar).exp() * noise(len(steps) - 1 - i).double()
    return x.float()


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        ({"steps": None}, list(range(T))),
        ({"steps": 25, "spacing": "dit"}, [round(i * 999 / 24) for i in range(25)]),
    ],
    ids=["all steps", "25"],
)
def test_ancestral_sampling_with_the_learned_variance(sampler: dict, steps: list[int]) -> None:
    expected = plain_ancestral(steps)
    torch.testing.assert_close(drawn(LEARNED | sampler, {"kind": "iddpm"}), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("variance", "value"), [("small", -1.0), ("large", 1.0)])
def test_the_ends_of_the_output_are_the_fixed_variances(variance: str, value: float) -> None:
    """v = -1 and v = 1."""

    def extreme(x: Tensor, c: Tensor, *_: object) -> tuple[Tensor, dict]:
        eps, values = network(x, c)[0].chunk(2, dim=1)
        return torch.cat([eps, torch.full_like(values, value)], dim=1), {}

    learned = drawn(LEARNED | {"steps": 50}, {"kind": "iddpm"}, extreme)
    fixed = {"kind": "ddpm", "variance": variance, "steps": 50}
    torch.testing.assert_close(learned, drawn(fixed, {"kind": "iddpm"}), rtol=1e-5, atol=1e-5)
    plain = plain_ancestral([i * T // 50 for i in range(50)], (value + 1) / 2)
    torch.testing.assert_close(learned, plain, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, T), st.floats(-1, 1), st.integers(0, 99))
def test_the_estimate_is_ddpms_and_the_variance_lies_between_its_bounds(t: int, value: float, seed: int) -> None:
    x, eps = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    level = IDDPM().at(t)
    output = torch.cat([eps, torch.full_like(eps, value)], dim=1)
    noisy = perturb(x, level.of(x), eps)
    denoised = IDDPM().denoise(lambda *_: (output, {}), noisy, level.of(x))
    torch.testing.assert_close(denoised.x0, DDPM().denoise(lambda *_: (eps, {}), noisy, level.of(x)).x0)
    assert ((denoised.variance_share >= 0) & (denoised.variance_share <= 1)).all()


def test_ddim_takes_no_notice_of_the_variance() -> None:
    ddim = {"kind": "ddim", "steps": 20}
    alone = lambda x, c, *_: (network(x, c)[0].chunk(2, dim=1)[0], {})  # noqa: E731
    assert torch.equal(drawn(ddim, {"kind": "iddpm"}), drawn(ddim, {"kind": "ddpm"}, alone))


def test_levels_of_the_specification() -> None:
    """abar of DiT's steps, counted from 0: what its probes are published at."""
    for step, value in ((81, 0.928303), (121, 0.852687), (999, 4.0e-5)):
        level: Level = IDDPM().at(step + 1)
        assert level.alpha**2 == pytest.approx(value, rel=1e-5 if step < 999 else 0.02) and level.c_noise == step
    assert all(now.alpha < after.alpha for after, now in pairwise(map(IDDPM().at, range(T + 1))))
