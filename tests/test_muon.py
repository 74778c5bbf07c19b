"""Muon against torch's own, which takes matrices alone, and against what it is meant to do."""

import pytest
import torch
from torch import Tensor, nn

from diffprobe.training.muon import Muon, orthogonal
from diffprobe.training.optimizers import RATE, Options, optimizer
from diffprobe.training.tasks.base import ParameterGroup


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_orthogonal_keeps_singular_vectors(shape: tuple[int, int]) -> None:
    """The polar factor U V' of U S V' is the nearest orthogonal matrix; the iteration comes within 0.3 of each 1."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.2, 1.0, min(shape))
    inner = u.T @ orthogonal((u @ values.diag() @ v)[None])[0] @ v.T
    assert ((inner.diagonal() - 1).abs() < 0.35).all()
    torch.testing.assert_close(inner, inner.diagonal().diag(), atol=1e-4, rtol=0)


def test_matrices_move_as_by_torch_and_the_rest_as_by_adamw() -> None:
    torch.manual_seed(1)
    start = {"matrix": torch.randn(6, 10), "tall": torch.randn(12, 4), "bias": torch.randn(6)}
    gradients = [{name: torch.randn_like(value) for name, value in start.items()} for _ in range(4)]
    ours = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    theirs = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    group = {"params": list(ours.values()), "weight_decay": 0.1, RATE: 1.0}
    muon = Muon([group], 0.02, (0.9, 0.99), momentum=0.95, bf16=True)
    references: list[torch.optim.Optimizer] = [
        torch.optim.Muon(
            [theirs["matrix"], theirs["tall"]], 0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW([theirs["bias"]], 0.02, (0.9, 0.99), weight_decay=0.1),
    ]
    for step in gradients:
        for name, gradient in step.items():
            ours[name].grad, theirs[name].grad = gradient.clone(), gradient.clone()
        for each in (muon, *references):
            each.step()
    torch.testing.assert_close(ours["bias"], theirs["bias"])
    for name in ("matrix", "tall"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=0)  # updates are rounded to bfloat16
        assert (ours[name] - start[name]).abs().mean() > 0.005


def test_a_convolution_is_a_matrix_and_groups_have_their_rates() -> None:
    """Each update has entries of RMS 0.2 lr, whatever the gradient's size; a second group at a tenth of the rate."""

    def step(scale: float) -> list[Tensor]:
        torch.manual_seed(2)
        layers = [nn.Conv2d(8, 16, 3, bias=False) for _ in range(2)]
        groups = [ParameterGroup([layers[0].weight]), ParameterGroup([layers[1].weight], rate=0.1)]
        made = optimizer(groups, Options(batch=4, lr=0.01, optimizer="muon", momentum=0.95))
        before = [layer.weight.detach().clone() for layer in layers]
        for layer in layers:
            layer.weight.grad = scale * torch.randn_like(layer.weight)
        for group in made.param_groups:
            group["lr"] = 0.01 * group[RATE]
        made.step()
        return [layer.weight.detach() - old for layer, old in zip(layers, before, strict=True)]

    small, large = step(1e-3), step(1e3)
    for a, b, rate in zip(small, large, (1.0, 0.1), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-2)
        # An orthogonal matrix (16, 72) has entries of RMS 1 / sqrt(72); singular values are 0.7 to 1.2.
        assert 0.7 <= float(a.square().mean().sqrt()) / (0.01 * 0.2 * rate) <= 1.2
