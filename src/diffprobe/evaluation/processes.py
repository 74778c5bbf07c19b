"""A pass shared by several processes: each takes a part of the images, and what they collect is merged."""

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation import extractors
from diffprobe.evaluation.collect import begin, collect
from diffprobe.evaluation.extractors import Extractor
from diffprobe.evaluation.statistics import Plan, Statistics
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.workers import end_with_parent

_counters: Any = None  # images done by each process of the pool


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
    counters = context.Array("q", processes)
    edges = [work.plan.n * i // processes for i in range(processes + 1)]
    with ProcessPoolExecutor(processes, context, _enter, (counters, torch.get_num_threads() // processes)) as pool:
        futures = [pool.submit(_collect, work, i, *edges[i : i + 2]) for i in range(processes)]
        try:
            watch(futures, lambda: report(sum(counters)))
            states = [future.result() for future in futures]
        except BrokenProcessPool:
            raise UserError("a process of the pass was killed; run again with fewer, if memory was short") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return merged(states, made, work)


def watch(futures: list[Future], tell: Callable[[], object]) -> None:
    """Tell how far they are until all are done or one has failed."""
    while wait(futures, 0.5, FIRST_EXCEPTION).not_done and not any(f.done() and f.exception() for f in futures):
        tell()
    tell()


def merged(states: list[dict[str, dict[str, Tensor]]], made: Mapping[str, Extractor], work: Work) -> dict:
    """The statistics of all processes in one, in the order of the images."""
    found = begin(made, work.plan, work.figures)
    for part in states:
        for name, whole in found.items():
            own = Statistics(work.plan, made[name], work.figures)
            own.restore(part[name])
            whole.merge(own)
    return found


def _enter(counters: Any, threads: int) -> None:
    global _counters
    end_with_parent()
    torch.set_num_threads(max(1, threads))
    _counters = counters


def _collect(work: Work, index: int, start: int, stop: int) -> dict[str, dict[str, Tensor]]:
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", index % gpus) if gpus else torch.device("cpu")
    made = {name: extractors.make(config, weights, device) for name, (config, weights) in work.extractors.items()}

    def report(done: int) -> None:
        _counters[index] = done

    options = {"batch": work.batch, "start": start, "stop": stop, "report": report}
    images = open_images(work.path, **work.opening)
    found = collect(made, images, work.plan, work.figures, device, **options)
    return {name: statistics.state() for name, statistics in found.items()}
