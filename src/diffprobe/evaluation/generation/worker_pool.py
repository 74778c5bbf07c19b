"""A pass shared by several processes: each takes a part of the images, and what they collect is merged."""

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.collect import begin, collect
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.statistics import Plan, Statistics
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.workers import end_with_parent

_shared: dict[str, Any] = {}  # in a process of the pool: the counters of images done, the event of its end


@dataclass(frozen=True)
class Work:
    """What is gone through, by what. `extractors`: config subtree and weights by name; `opening`: of `open_images`."""

    extractors: dict[str, tuple[dict[str, Any], str | None]]
    path: Path
    opening: dict[str, Any]
    plan: Plan
    figures: tuple[str, ...]
    batch: int


def collect_together(
    work: Work, made: Mapping[str, Extractor], processes: int, report: Callable[[int], object]
) -> dict[str, Statistics]:
    """As `collect`, by several processes, each on a GPU of its own where there are some.

    `made` holds the extractors of `work`. Raises UserError where a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    counters, ending = context.Array("q", processes), context.Event()
    edges = [work.plan.n * i // processes for i in range(processes + 1)]
    threads = max(1, torch.get_num_threads() // processes)
    with ProcessPoolExecutor(processes, context, _enter, (counters, ending, threads)) as pool:
        futures = [pool.submit(_collect, work, i, *edges[i : i + 2]) for i in range(processes)]
        try:
            watch(futures, lambda: report(sum(counters)))
            states = [future.result() for future in sorted(futures, key=lambda future: not failed(future))]
        except BrokenProcessPool:
            raise UserError("a process of the pass was killed; run again with fewer, if memory was short") from None
        finally:
            ending.set()  # the others need not go on for hours
    return merged(states, made, work)


def watch(futures: list[Future], tell: Callable[[], object]) -> None:
    """Tell how far they are until all are done or one has failed."""
    while wait(futures, 0.5, FIRST_EXCEPTION).not_done and not any(map(failed, futures)):
        tell()
    tell()


def failed(future: Future) -> bool:
    return future.done() and future.exception() is not None


def merged(states: list[dict[str, dict[str, np.ndarray]]], made: Mapping[str, Extractor], work: Work) -> dict:
    """The statistics of all processes in one."""
    found = begin(made, work.plan, work.figures)
    for part in states:
        for name, whole in found.items():
            own = Statistics(work.plan, made[name], work.figures)
            own.restore({key: torch.from_numpy(np.array(value)) for key, value in part[name].items()})
            whole.merge(own)
    return found


def _enter(counters: Any, ending: Any, threads: int) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    _shared.update(counters=counters, ending=ending)


def _collect(work: Work, index: int, start: int, stop: int) -> dict[str, dict[str, np.ndarray]]:
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", index % gpus) if gpus else torch.device("cpu")
    made = {name: extractors.make(config, weights, device) for name, (config, weights) in work.extractors.items()}

    def report(done: int) -> None:
        _shared["counters"][index] = done
        if _shared["ending"].is_set():
            raise KeyboardInterrupt

    options = {"batch": work.batch, "start": start, "stop": stop, "report": report}
    images = open_images(work.path, **work.opening)
    found = collect(made, images, work.plan, work.figures, device, **options)
    # As arrays: tensors would travel through shared memory, of which containers have little.
    return {name: {key: x.numpy() for key, x in it.state().items()} for name, it in found.items()}
