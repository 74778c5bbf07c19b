"""Figures of images from anywhere, outside the workflow: each set is read once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from diffprobe.config.extractors import Extractor
from diffprobe.config.models import Metrics
from diffprobe.config.names import FIGURES
from diffprobe.data.imagesets import ImageSet, kind_of, open_images
from diffprobe.data.npy import is_statistics, npz_keys
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.figures import Request, Subject, figure_names
from diffprobe.evaluation.generation.measurement import Measurement
from diffprobe.evaluation.generation.reference import Reference, import_reference, read, write
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.evaluation.generation.worker_pool import Work, collect_in_parallel
from diffprobe.runtime.errors import UserError

About = dict[str, Any]  # part of a receipt
Row = dict[str, Any]


def open_set(path: Path, size: int | None, channels: int | None, splits: Sequence[str] | None) -> ImageSet:
    """As `open_images`; the splits are those of image stores, which alone have any."""
    return open_images(path, size=size, channels=channels, splits=splits if kind_of(path) == "store" else None)


class Comparison:
    """Two sets of images under one extractor, read by one process or by several; `opening` is that of `open_set`."""

    def __init__(
        self,
        settings: Extractor,
        weights: Path | None,
        request: Request,
        metrics: Metrics,
        opening: tuple[int | None, int | None, Sequence[str] | None],
        processes: int,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.settings, self.weights = settings, weights
        self.extractor = extractors.make(settings, weights, self.device)
        self.request, self.metrics, self.opening, self.processes = request, metrics, opening, processes

    def measurement(self, reference: Reference | None) -> Measurement:
        subject = Subject("", self.extractor, reference)  # without a config it has no name
        return Measurement(self.request, self.metrics, [subject], self.device)

    def refuse(self, images: Path, against: Path | None) -> None:
        """Raises UserError for what would fail after hours."""
        reference, sets = None, [path for path in (images, against) if path and not is_statistics(path)]
        if self.opening[2] and not any(kind_of(path) == "store" for path in sets):
            raise UserError("--splits: only image stores (.h5) have splits; leave it out")
        if against and is_statistics(against):
            # ADM's files hold some images too, whose features are computed later.
            reference = None if "arr_0" in npz_keys(against) else read(against, self.extractor)
        elif against:
            open_set(against, *self.opening)
        self.measurement(reference).new_statistics(open_set(images, *self.opening).n)

    def collect(self, path: Path, every_figure: bool = False) -> tuple[Statistics, About]:
        """The statistics of all images at `path` for the request, or for any figure; and the images' identity."""
        images = open_set(path, *self.opening)
        plan, batch = SubsetPlan(images.n, self.metrics.subset), self.metrics.batch
        figures = FIGURES if every_figure else figure_names(self.request)
        statistics = Statistics(plan, self.extractor, figures)
        processes = min(self.processes, images.n)
        with progress(images.origin, images.n) as report:
            if processes > 1:
                work = Work(self.settings, self.weights, partial(open_set, path, *self.opening), plan, figures, batch)
                collect_in_parallel(statistics, work, processes, report)
            else:
                collect([statistics], images, self.device, batch=batch, report=report)
        return statistics, {"origin": images.origin, "images": images.n, **images.identity}

    def reference(self, path: Path) -> Reference:
        """From a file of statistics, or from images."""
        if is_statistics(path):
            return import_reference(path, self.extractor, self.metrics.subset, self.device, self.metrics.batch)
        statistics, about = self.collect(path)
        return Reference.of(statistics, about["origin"], {"source": about})

    def save(self, path: Path, statistics: Statistics, about: About) -> None:
        """Keep a set's statistics as a reference."""
        source = {"source": about, "extractor": self.extractor.identity}
        write(path, Reference.of(statistics, about["origin"], source))

    def figures(self, statistics: Statistics, reference: Reference) -> tuple[list[Row], About]:
        """The figures (evaluator, value, spread, images), and their receipt."""
        measurement = self.measurement(reference)
        rows = [{key: x for key, x in row.items() if key != "extractor"} for row in measurement.rows([statistics])]
        return rows, measurement.about([statistics])[""]


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on the terminal; yields a function that sets how many are done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.update(bar, completed=done)
