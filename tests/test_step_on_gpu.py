"""What a training step starts on a GPU, counted without one: kernels by part, and waits for the device.

Steps run on torch's `meta` device, which has shapes and no numbers: whatever needs a number raises an error there.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from toy_kernels import gpu_kernels

from diffprobe.config.training import DDAERamp
from diffprobe.data.augment import edm, random_flip
from diffprobe.data.batch import Batch
from diffprobe.diffusion.ddpm import DDPM
from diffprobe.diffusion.edm import EDM
from diffprobe.diffusion.process import Process
from diffprobe.networks.compiled import FUSED_NODES
from diffprobe.networks.unet import UNet
from diffprobe.runtime import keyed
from diffprobe.runtime.keyed import Draws
from diffprobe.training import loop
from diffprobe.training.ema import EMA
from diffprobe.training.loop import fresh, train
from diffprobe.training.optimizers import Options
from diffprobe.training.state import State
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.base import View
from diffprobe.training.tasks.diffusion import Diffusion

META = torch.device("meta")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2")  # sizes or numbers for the host
PARTS = ("optimiser", "average", "clipping", "losses", "stream", "other")
VIEWS: dict[str, View | None] = {"ddpm": lambda x, draws: (random_flip(x, draws), None), "edm": edm}
PROCESSES: dict[str, Process] = {"ddpm": DDPM(), "edm": EDM()}


class Launches(TorchDispatchMode):
    """Counts operators that start kernels, by part of a step, and lists what would make the host wait or copy."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.counts, self.transfers = "other", Counter[str](), []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(x.device != META for x in tensors) or name in WAITS:
            self.transfers.append(f"{self.part}: {name}")
        launches = function.namespace != "profiler" and not function.is_view
        if launches and name not in ("empty", "empty_like", "empty_strided", "detach", "set_"):
            self.counts[self.part] += 1
        return out

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        before, self.part = self.part, part
        yield
        self.part = before


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device in a GPU's place: torch has one kernel for many tensors there, and autocast."""
    autocast = torch.autocast

    def no_autocast(kind: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if kind == "meta" else autocast(kind, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", no_autocast)
    for owner in (_foreach_utils, sys.modules["torch.optim.optimizer"]):
        for name in ("_get_fused_kernels_supported_devices", "_get_foreach_kernels_supported_devices"):
            monkeypatch.setattr(owner, name, lambda: ["meta", "cpu"])
    monkeypatch.setattr(keyed, "has_fused", lambda device: True)


def steps(
    monkeypatch: pytest.MonkeyPatch, kind: str, batch: int, count: int, depth: int = 1, tick: Any = lambda *_: None
) -> Launches:
    """What `count` steps launch, after one that fills tables and the optimiser's state."""
    task = Diffusion(UNet(3, 32, (1, 2), depth, augment=9 if kind == "edm" else 0), PROCESSES[kind], view=VIEWS[kind])
    task.module.to(META)
    options = Options(batch, 1e-4, clip=1.0, averages={"ema": DDAERamp(kind="ddae")})
    images = torch.zeros(1000, 8, 8, 3, dtype=torch.uint8, device=META)
    stream = Stream(images, torch.zeros(1000, dtype=torch.int64, device=META), 0, META)
    launches = Launches()

    def by_part(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with launches.within(part):
                return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name, part in (
            (task, "inputs", "draws"),
            (task, "error", "network"),
            (Tensor, "backward", "network"),
            (EMA, "update", "average"),
            (nn.utils, "clip_grad_norm_", "clipping"),
            (torch.optim.AdamW, "step", "optimiser"),
            (State, "note", "losses"),
            (stream, "read", "stream"),
        ):
            patch.setattr(owner, name, by_part(getattr(owner, name), part))
        patch.setattr(loop, "tick", tick)  # which alone may wait
        state = fresh(task, options)
        train(task, stream, options, state, 1, lambda _: None)
        with launches:
            train(task, stream, options, state, 1 + count, lambda _: None)
    return launches


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_step_between_two_rows_of_the_history_waits_for_nothing(kind, gpu, monkeypatch):
    assert steps(monkeypatch, kind, 8, 2).transfers == []


def test_a_wait_would_be_noticed(gpu, monkeypatch):
    """A row of the history waits for its losses, which the meta device does not have."""
    tick = loop.tick
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        steps(monkeypatch, "ddpm", 8, 1, tick=tick)


@pytest.mark.parametrize("kind", PROCESSES)
def test_optimiser_average_and_clipping_are_a_few_kernels_for_all_tensors(kind, gpu, monkeypatch):
    """For any number of parameters, and any batch."""
    few, more = (steps(monkeypatch, kind, batch, 1, depth).counts for batch, depth in ((4, 1), (64, 3)))
    assert all(few[part] == more[part] for part in (*PARTS, "draws"))
    assert few["optimiser"] <= 2 and few["average"] == 1 and few["clipping"] <= 8
    assert few["stream"] + few["losses"] + few["other"] <= 30
    assert more["network"] > few["network"]


@pytest.mark.parametrize(("kind", "most"), [("ddpm", 4), ("edm", 10)])
def test_compiled_draws_are_at_most_ten_kernels(kind, most, monkeypatch):
    """Noise, levels, flips and augmentation of DDAE's two recipes in pixels, from the code that torch generates."""
    task = Diffusion(nn.Identity(), PROCESSES[kind], view=VIEWS[kind])

    def inputs(images: Tensor, labels: Tensor, rows: Tensor) -> list[Tensor]:
        noised, cond = task.draw_inputs(Batch(images, labels, rows), Draws(0, rows))
        parts = [noised.clean, noised.noise, *noised.level, noised.noisy, cond.augment]
        return [part for part in parts if part is not None]

    images = torch.zeros(64, 3, 8, 8).to(memory_format=torch.channels_last)
    labels, rows = torch.zeros(2, 64, dtype=torch.int64)
    kernels = gpu_kernels(inputs, [images, labels, rows], monkeypatch, max_fusion_size=FUSED_NODES)
    assert 0 < len(kernels) <= most, kernels
