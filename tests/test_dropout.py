"""Masks of dropout on a CPU."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diffprobe.networks.dropout import Dropout, drops, mask
from diffprobe.networks.unet import UNet
from diffprobe.training.tasks.base import Task


def test_masks_are_those_of_version_2():
    """Of numpy's Mersenne twister: other masks need another `config.names.MASKS`, as a begun run must not mix them."""
    torch.manual_seed(3)
    words = np.random.RandomState(3).randint(2**32, size=(8, 2), dtype=np.uint32)
    signed = words[:, ::-1].copy().view(np.int16)  # the first of two words is the upper half of 64 bits
    kept = mask(torch.zeros(2, 15), 0.3) > 0
    assert np.array_equal(kept.flatten(), signed.flatten()[:30] >= round(0.3 * 2**16) - 2**15)


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9])
def test_numbers_are_dropped_independently_and_with_their_probability(p):
    torch.manual_seed(0)
    kept = mask(torch.zeros(1000, 1000), p).bool().double()
    deviation = (p * (1 - p)) ** 0.5
    assert abs(kept.mean() - (1 - p)) < 4 * deviation / 1000 + 2**-17
    for lane in kept.flatten().view(-1, 4).unbind(1):  # a draw decides on four
        assert abs(lane.mean() - (1 - p)) < 4 * deviation / 500 + 2**-17
    flat = (kept.flatten() - kept.mean()) / deviation
    for lag in (1, 2, 3, 4, 1000):
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 4e-3  # four standard errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_stays_is_larger_and_gradients_take_the_same_mask(dtype, memory_format):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 7, 4).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    y = Dropout(0.25)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert (y.dtype, y.stride()) == (dtype, x.stride())
    assert_close(y, x * gradient)
    assert_close(gradient.unique(), torch.tensor([0, 4 / 3], dtype=dtype))


def test_evaluation_and_probability_0_change_nothing():
    x = torch.randn(4, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_other_devices_have_torchs_own_masks():
    assert Dropout(0.5)(torch.empty(2, 3, device="meta")).device.type == "meta"


class Plain(Task):
    def losses(self, batch, draws):
        return {}


def test_a_run_with_dropout_does_not_continue_one_with_torchs_masks():
    networks = [UNet(1, 8, (1,), 1, groups=4, dropout=p) for p in (0.0, 0.1)]
    assert [drops(network) for network in networks] == [False, True]
    without, with_dropout = (Plain(network) for network in networks)
    assert (without.identity, without.superseded) == ({"draws": "2"}, [{}])
    assert with_dropout.identity == {"draws": "2", "dropout": "2"}
    assert {"draws": "2"} in with_dropout.superseded
    assert not drops(nn.Dropout(0.1))  # a plugin's own masks are torch's still
