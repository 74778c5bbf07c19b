"""Batch norms of several processes: torch's own by the same batch, and a run of two processes like that of one.

The file is also the program of the second process: `test_batch_norm.py FOLDER`.
"""

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from toy_training import CPU, stream

from diffprobe.config.training import HalfLife
from diffprobe.data.batch import Batch
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws
from diffprobe.training.batch_norm import SharedBatchNorm, share_batch_norms
from diffprobe.training.loop import fresh, prepare, train
from diffprobe.training.optimizers import Options
from diffprobe.training.state import State, save
from diffprobe.training.tasks.base import Task
from diffprobe.training.world import World

AVERAGES = {"ema": HalfLife(kind="half_life", kimg=0.05, ramp=1.0)}
OPTIONS = Options(batch=9, lr=0.05, optimizer="sgd", averages=AVERAGES)  # 9: shares of 4 and 5


# --- a run


class Predict(Task):
    """A network names the mean of an image from a noisy view of it; each image has its own draws.

    It is smooth: at the kink of a ReLU a difference of rounding moves a gradient by percents.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        block = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 3, stride=2)]
        head = [nn.BatchNorm2d(4), nn.SiLU(), nn.AvgPool2d(3), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 1)]
        super().__init__(nn.Sequential(*block, *head))

    def losses(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        x = batch.images + 0.1 * draws.normal("noise", tuple(batch.images.shape[1:]))
        return {"loss": (self.module(x)[:, 0] - batch.images.mean((1, 2, 3))).square().mean()}


def trained(world: World) -> State:
    task = Predict()
    prepare(task, CPU, OPTIONS, world)
    state = fresh(task, OPTIONS)
    train(task, stream(size=8, channels=1), OPTIONS, state, 4, lambda _: None, world)
    return state


def one_of_two(rank: int, folder: Path) -> State:
    """A run in a process of its own; the other one finds it by a file in the folder."""
    patience, meeting = datetime.timedelta(minutes=5), f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    state = trained(World(rank, size=2))
    dist.destroy_process_group()
    return state


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """Losses, weights, running statistics and their averages, within rounding; both processes, bit for bit."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    other = subprocess.Popen([sys.executable, __file__, str(tmp_path)], env=os.environ | {"PYTHONPATH": paths})
    state = one_of_two(0, tmp_path)
    assert other.wait() == 0
    first, second = state.tensors(), load_file(tmp_path / "state.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = trained(World())
    torch.testing.assert_close(first, alone.tensors(), rtol=1e-4, atol=1e-5)
    assert first["raw.8.num_batches_tracked"] == 4
    assert (first["ema.ema.8.running_mean"] - first["raw.8.running_mean"]).abs().max() > 1e-4
    assert state.history == [pytest.approx(row, rel=1e-5) for row in alone.history]


# --- a batch norm


@pytest.fixture
def group() -> Iterator[World]:
    """A group of one process, whose world counts as two."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield World(size=2)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (lambda: nn.BatchNorm2d(3), (4, 3, 5, 5)),
        (lambda: nn.BatchNorm1d(3, momentum=None, eps=1e-3), (6, 3)),
        (lambda: nn.BatchNorm2d(3, affine=False, momentum=0.3), (2, 3, 4, 4)),
        (lambda: nn.BatchNorm1d(3, track_running_stats=False), (2, 3, 4)),
    ],
)
def test_it_is_torchs_batch_norm(group: World, norm, shape) -> None:
    """Outputs, gradients, running statistics; in evaluation too, and far from zero."""
    torch.manual_seed(0)
    ours, theirs = nn.Sequential(norm()), nn.Sequential(norm())
    if ours[0].affine:
        nn.init.normal_(ours[0].weight), nn.init.normal_(ours[0].bias)
    theirs.load_state_dict(ours.state_dict())
    parameters = list(ours.parameters())
    share_batch_norms(ours, group)
    assert isinstance(ours[0], SharedBatchNorm) and all(
        a is b for a, b in zip(parameters, ours.parameters(), strict=True)
    )
    for _ in range(3):
        x = (3 + torch.randn(shape)).requires_grad_()
        y, weights = x.detach().clone().requires_grad_(), torch.randn(shape)
        out, expected = ours(x), theirs(y)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        (out * weights).sum().backward(), (expected * weights).sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_in_bfloat16_its_statistics_are_of_float32(group: World) -> None:
    network, x = nn.Sequential(nn.BatchNorm2d(3)), (8 + torch.randn(4, 3, 16, 16)).bfloat16()
    expected = nn.BatchNorm2d(3)(x.float())
    share_batch_norms(network, group)
    out = network(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=1e-2, atol=1e-2)


def test_other_batch_norms_are_refused(group: World) -> None:
    class Own(nn.BatchNorm2d):
        pass

    network = nn.Sequential(Own(3))
    share_batch_norms(network, World())
    with pytest.raises(UserError, match=r"train\.devices: Own "):
        share_batch_norms(network, group)


if __name__ == "__main__":
    save(Path(sys.argv[1], "state.safetensors"), one_of_two(1, Path(sys.argv[1])), {})
