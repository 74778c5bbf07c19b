"""Linear layers: torch's own are the reference."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from toy_layers import assert_alike, results

from diffprobe.networks import linear
from diffprobe.networks.dit import DiT
from diffprobe.networks.linear import Linear


class Operators(TorchDispatchMode):
    """How often each operator runs, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.name()] += 1
        return func(*args, **(kwargs or {}))


def convolutions(network: nn.Module, *inputs: Tensor) -> int:
    with Operators() as seen:
        network(*inputs)
    return seen.calls["aten::convolution"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 64, 24), (2, 4, 32, 24), (256, 24)])
def test_convolutions_give_torchs_products_and_gradients(monkeypatch, shape, bias):
    monkeypatch.setattr(linear, "convolves_faster", lambda: True)
    torch.manual_seed(0)
    ours, torchs = Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(shape)
    assert convolutions(ours, x) and not convolutions(torchs, x)
    outcome = results(ours, x)
    assert outcome[0].is_contiguous()
    assert_alike(outcome, results(torchs, x))


def test_products_stay_products_where_a_convolution_gains_nothing(monkeypatch):
    """Few rows, rows that make no 16 images, other numbers than float32, another CPU."""
    layer, rows = Linear(8, 8), torch.randn(512, 8)
    with monkeypatch.context() as patched:
        patched.setattr(linear, "convolves_faster", lambda: True)
        assert convolutions(layer, rows)
        assert not convolutions(layer, rows[:240]) and not convolutions(layer, rows[:500])
        assert not convolutions(Linear(8, 8).double(), rows.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not convolutions(layer, rows)
    monkeypatch.setattr(linear, "convolves_faster", lambda: False)
    assert not convolutions(layer, rows)


def test_a_dit_is_the_same_network_in_either_way(monkeypatch):
    torch.manual_seed(0)
    dit = DiT(3, width=32, depth=2, heads=2, patch=2, position="rope")
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.1)  # adaLN-Zero begins as the identity
    x, t = torch.randn(8, 3, 16, 16), torch.rand(8)
    outputs = []
    for faster, layers in ((True, 4 * 2 + 1), (False, 0)):
        monkeypatch.setattr(linear, "convolves_faster", lambda faster=faster: faster)
        assert convolutions(dit, x, t) == 1 + layers  # patches to tokens is one in either way
        outputs.append(dit(x, t)[0])
    assert_close(*outputs, rtol=1e-4, atol=1e-5)
