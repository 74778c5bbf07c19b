"""What the rows of the training loop share: the loop as jobs run it, and the bare step that it contains.

The bare step is forward, backward, fused Adam and one average of the same network, in the same memory format, on a
batch that is drawn once, with our allocator's settings. So what the loop adds is its draws, its reading, its
bookkeeping. One thread, as in the demo.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.recipes import settings
from benchmarks.row import ROOT, Agreement, Piece, Setting
from diffprobe.config.load import load
from diffprobe.data.batch import Batch, Feed
from diffprobe.diffusion.edm import EDM
from diffprobe.networks.build import build
from diffprobe.runtime.keyed import Draws
from diffprobe.training.loop import fresh, prepare, train
from diffprobe.training.optimizers import OPTIMIZERS, Options
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.diffusion import Diffusion
from diffprobe.training.world import World

CPU = torch.device("cpu")
DECAY = 0.999


class Loop(NamedTuple):
    """A task and what it reads. `latents` makes the stream of latents in a folder; None: of images (1, 8, 8)."""

    experiment: str  # of the demo's config
    shape: dict[str, int]  # of the network, as in its checkpoint
    batch: int
    changes: dict[str, Any] = {}  # noqa: RUF012 (of the network)
    latents: Callable[[Setting], Feed] | None = None


def task_of(loop: Loop) -> tuple[Diffusion, Options]:
    experiment = load(ROOT / "config" / "config.yaml").experiments[loop.experiment]
    network = experiment.network.model_copy(update=loop.changes)
    process = EDM(sigma_data=experiment.process.sigma_data, p_mean=experiment.process.p_mean)
    torch.manual_seed(0)
    task = Diffusion(build(network, **loop.shape), process, getattr(network, "label_dropout", 0.0), shape=loop.shape)
    average = settings({"kind": "half_life", "build": experiment.train.averages["ema"].build, "kimg": 15, "ramp": 0.1})
    options = Options(loop.batch, lr=experiment.train.lr, averages={"ema": average})
    prepare(task, CPU, options, World())
    return task, options


def feed_of(loop: Loop, setting: Setting) -> Feed:
    if loop.latents:
        return loop.latents(setting)
    images = torch.randint(256, (1024, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Stream(images, torch.zeros(1024, dtype=torch.int64), 0, CPU)


def ours(loop: Loop) -> Callable[[Setting], Piece]:
    def prepared(setting: Setting) -> Piece:
        torch.set_num_threads(1)
        task, options = task_of(loop)
        state, feed = fresh(task, options), feed_of(loop, setting)

        def piece() -> float:
            train(task, feed, options, state, state.step + setting.amount, lambda _: None)
            return setting.amount

        return piece

    return prepared


def bare(loop: Loop) -> Callable[[Setting], Piece]:
    def prepared(setting: Setting) -> Piece:
        torch.set_num_threads(1)
        task, options = task_of(loop)
        loss = bare_loss(task, feed_of(loop, setting).read(0, loop.batch))
        optimizer = OPTIMIZERS[options.optimizer]([{"params": list(task.module.parameters())}], options)
        weights = list(task.module.parameters())
        averages = [weight.detach().clone() for weight in weights]
        task.module.train()

        def piece() -> float:
            for _ in range(setting.amount):
                loss().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                with torch.no_grad():
                    torch._foreach_lerp_(averages, weights, 1 - DECAY)
            return setting.amount

        return piece

    return prepared


def bare_loss(task: Diffusion, batch: Batch) -> Callable[[], Tensor]:
    """The loss of a batch whose level, noise and labels are drawn once, by the draws of the stream's positions."""
    noised, cond = task.draw_inputs(batch, Draws(0, batch.positions))
    return partial(task.network_error, noised, cond)


def check(loop: Loop) -> Callable[[bool], list[Agreement]]:
    """The loss of the loop's first step, and the bare one of the same batch."""

    def compared(tiny: bool) -> list[Agreement]:
        task, _ = task_of(loop)
        with TemporaryDirectory() as folder:
            batch = feed_of(loop, Setting(1, Path(folder))).read(0, loop.batch)
        with torch.no_grad():
            mine = task.losses(batch, Draws(0, batch.positions))["loss"]
            bare = bare_loss(task, batch)()
        return [Agreement("losses", abs(float(mine / bare) - 1), 1e-5)]

    return compared
