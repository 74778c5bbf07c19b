"""Training runs of seconds, for the tests of training: random images, a stop at a step, states compared."""

from pathlib import Path

import numpy as np
import torch

from diffprobe.training.loop import fresh
from diffprobe.training.optimizers import Options
from diffprobe.training.slices import Slice, run_slice
from diffprobe.training.state import Row, State
from diffprobe.training.stream import Stream
from diffprobe.training.tasks.base import Task

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for a SIGKILL: nothing is saved on the way out."""


def stream(size: int, channels: int, n: int = 50) -> Stream:
    """Random images of random bytes, without labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    return Stream(torch.from_numpy(pixels), torch.zeros(n, dtype=torch.int64), 0, CPU)


def slice_of(run: Path, kimg: int, start: int, stop: int, **tags: str) -> Slice:
    return Slice(run, kimg, start, stop, **{"identity": "i", "code": "c", "parent": str(start), **tags})


def run_once(
    part: Slice, task: Task, images: Stream, options: Options, die_at: int | None = None, autosave: float = 1e9
) -> tuple[State, list[Row], list[int]]:
    """Train a slice from a fresh state, as a new process would, until it ends or dies at step `die_at`.

    Returns the state, the slice's rows of history, and the steps at which it reported, the first before any training.
    With an autosave of 0 seconds each step is saved.
    """
    state, steps = fresh(task, options), []

    def report(state: State) -> None:
        steps.append(state.step)
        if state.step == die_at:
            raise KilledError

    return state, run_slice(part, task, images, options, state, autosave, report), steps


def equal(a: State, b: State) -> bool:
    """Whether all that is kept of two states is equal, bit for bit."""
    x, y = a.tensors(), b.tensors()
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)
