"""A pass shared by several processes: each takes pieces of the images, and what they collect is merged."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory

import safetensors.torch
import torch

from diffprobe.config.extractors import Extractor
from diffprobe.data.imagesets import ImageSet
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.runtime.allocator import keep_freed_memory
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import disk_errors
from diffprobe.runtime.workers import end_with_parent

PIECE = 512  # images at most: progress and errors show after a piece, whose statistics (up to 70 MB) become a file


@dataclass(frozen=True)
class Work:
    """A pass, in a form that can be sent to another process; `open_set` opens its images."""

    settings: Extractor
    weights: Path | None
    open_set: Callable[[], ImageSet]
    plan: SubsetPlan
    figures: tuple[str, ...]
    batch: int


def collect_in_parallel(statistics: Statistics, work: Work, processes: int, report: Callable[[int], object]) -> None:
    """Fill empty statistics as `collect` does, by several processes, each on a GPU of its own if there are any.

    Raises UserError where a process was killed.
    """
    n = work.plan.n
    pieces = max(processes, -(-n // PIECE))
    edges = [n * i // pieces for i in range(pieces + 1)]
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    indices: SimpleQueue[int] = context.SimpleQueue()
    for index in range(processes):
        indices.put(index)
    threads = max(1, torch.get_num_threads() // processes)
    with (
        TemporaryDirectory(prefix="diffprobe-") as folder,
        ProcessPoolExecutor(processes, context, _start, (work, indices, threads)) as pool,
    ):
        try:
            with sigint_blocked():  # inherited: Ctrl-C would print a traceback from processes that are still starting
                # Not by `map`, which would cancel those that are left: an executor cannot break with cancelled ones.
                states = deque(pool.submit(_collect, start, stop, folder) for start, stop in pairwise(edges))
            while states:  # in the order of the images, so sums round alike
                path = states.popleft().result()
                statistics.merge(safetensors.torch.load_file(path))
                Path(path).unlink()
                report(statistics.n)
        except BrokenProcessPool:
            raise UserError("a process of the pass was killed; run again with fewer if memory was short") from None
        except BaseException:
            for process in multiprocessing.active_children():  # a piece may take minutes
                process.terminate()
            raise


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Put off Ctrl-C; processes that start in the block do so until they unblock it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _start(work: Work, indices: "SimpleQueue[int]", threads: int) -> None:
    """Load in a process of the pool what all its pieces need."""
    global _collect_piece
    end_with_parent()
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C need not wait for the end of a piece
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    torch.set_num_threads(threads)
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", indices.get() % gpus) if gpus else torch.device("cpu")
    extractor = extractors.make(work.settings, work.weights, device)
    images = work.open_set()

    def collect_piece(start: int, stop: int) -> Statistics:
        statistics = Statistics(work.plan, extractor, work.figures)
        collect([statistics], images, device, batch=work.batch, start=start, stop=stop)
        return statistics

    _collect_piece = collect_piece


_collect_piece: Callable[[int, int], Statistics]  # of this process of the pool


def _collect(start: int, stop: int, folder: str) -> str:
    """The path of a file with the statistics of a piece.

    Tensors would travel through shared memory, of which containers have little. As bytes they would take a while
    through the pipe that all processes share, and one that was killed meanwhile would leave the parent waiting there.
    """
    state = {key: x.contiguous() for key, x in _collect_piece(start, stop).state().items()}
    path = f"{folder}/{start}.safetensors"
    with disk_errors(Path(path)):
        safetensors.torch.save_file(state, path)
    return path
