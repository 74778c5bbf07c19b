"""Convolutions of doubled maps: torch's own two steps are the reference."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from toy_layers import assert_alike, results

from diffprobe.networks import upsampling
from diffprobe.networks.unet_blocks import BlockOptions, ResBlock
from diffprobe.networks.upsampling import Double, Upsample, convolved_double


def two_steps(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return conv(F.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.fixture
def taps_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with AVX-512, whatever this one has."""
    monkeypatch.setattr(upsampling, "memory_format", lambda device: torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 13)])
def test_a_transposed_convolution_gives_the_two_steps_and_their_gradients(taps_summed, height, width, bias):
    torch.manual_seed(0)
    layer = Upsample(6)
    layer.after = conv = nn.Conv2d(6, 10, 3, padding=1, bias=bias).to(memory_format=torch.channels_last)
    x = torch.randn(8, 6, height, width).contiguous(memory_format=torch.channels_last)
    summed = results(layer, x)
    assert summed[0].shape == (8, 10, 2 * height, 2 * width)
    assert summed[0].is_contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upsampling, "transposes", lambda x: False)
        assert_alike(summed, results(layer, x))
    assert_close(summed[0], two_steps(x, conv).detach(), rtol=1e-5, atol=1e-5)


def test_a_residual_block_doubles_in_either_way(taps_summed, monkeypatch):
    torch.manual_seed(0)
    options = BlockOptions(emb=8, groups=2, eps=1e-5, dropout=0.0, skip_scale=0.5**0.5)
    block = ResBlock(4, 4, options, Double())
    x, emb = torch.randn(8, 4, 8, 8), torch.randn(8, 8)
    summed = results(block, x, emb)
    monkeypatch.setattr(upsampling, "transposes", lambda x: False)
    assert summed[0].shape == (8, 4, 16, 16)
    assert_alike(summed, results(block, x, emb))


def test_the_two_steps_stay_where_the_sums_gain_nothing(taps_summed, monkeypatch):
    """A few positions, other numbers than float32, another order in memory: the very bits of torch's two steps."""
    conv, x = nn.Conv2d(4, 4, 3, padding=1), torch.randn(8, 4, 8, 8)
    assert upsampling.transposes(x)
    assert torch.equal(convolved_double(x[:7], conv), two_steps(x[:7], conv))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(convolved_double(x, conv), two_steps(x, conv))
    monkeypatch.setattr(upsampling, "memory_format", lambda device: torch.contiguous_format)
    assert torch.equal(convolved_double(x, conv), two_steps(x, conv))
