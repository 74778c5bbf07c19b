"""Figures of images from anywhere, outside the workflow: each set is gone through once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diffprobe.config.names import FIGURES
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation import extractors, figures
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.reference import Reference, read, write
from diffprobe.evaluation.generation.reference_sources import brought, keys
from diffprobe.evaluation.generation.statistics import Plan, Statistics
from diffprobe.evaluation.generation.worker_pool import Work, collect_together

About = dict[str, Any]


class Pass:
    """Passes over sets of images through one extractor, by one process or by several.

    `config` and `weights` are an extractor's, `opening` the options of `open_images`, `metrics` those of the config.
    """

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None,
        *,
        figures: figures.Asked,
        opening: dict[str, Any],
        metrics: dict[str, Any],
        processes: int,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.extractor = extractors.make(config, weights, self.device)
        self.made = {"it": (config, weights)}
        self.asked, self.opening, self.metrics, self.processes = figures, opening, metrics, processes

    def refuse(self, images: Path, against: Path | None) -> None:
        """What can be known to be in vain before hours are spent on it."""
        known = {}
        if against and is_statistics(against):
            known = {} if "arr_0" in keys(against) else {"it": read(against, self.extractor)}
        elif against:
            self.opened(against)
        plan = Plan(self.opened(images).n, self.metrics["subset"])
        figures.refuse(self.asked, {"it": self.extractor}, known, plan, self.options)

    def opened(self, path: Path) -> ImageSet:
        return open_images(path, **self.opening_of(path))

    def opening_of(self, path: Path) -> dict[str, Any]:
        """Only image stores have splits."""
        return {key: value for key, value in self.opening.items() if key != "splits" or path.suffix == ".h5"}

    @property
    def options(self) -> dict[str, int]:
        return {name: self.metrics[name] for name in ("neighbours", "wide_neighbours")}

    def over(self, path: Path, everything: bool = False) -> tuple[Statistics, About]:
        """The statistics of all images at `path`, and what tells them; `everything` that any figure may ask."""
        images = self.opened(path)
        plan, batch = Plan(images.n, self.metrics["subset"]), self.metrics["batch"]
        wanted = FIGURES if everything else figures.wanted(self.asked)
        processes, it = min(self.processes, images.n), {"it": self.extractor}
        with progress(images.origin, images.n) as report:
            if processes > 1:
                work = Work(self.made, path, self.opening_of(path), plan, wanted, batch)
                found = collect_together(work, it, processes, report)
            else:
                found = collect(it, images, plan, wanted, self.device, batch=batch, report=report)
        return found["it"], {"origin": images.origin, "images": images.n, **images.identity}

    def reference(self, path: Path) -> Reference:
        """From statistics where the file holds some, else from its images."""
        if is_statistics(path):
            return brought(path, self.extractor, self.metrics["subset"], self.device, self.metrics["batch"])
        found, about = self.over(path)
        return Reference.of(found, about["origin"], {"source": about})

    def save(self, path: Path, found: Statistics, about: About) -> None:
        """Keep a set's statistics, to be a reference."""
        source = {"source": about, "extractor": self.extractor.identity}
        write(path, Reference.of(found, about["origin"], source))

    def compared(self, found: Statistics, reference: Reference) -> tuple[list[dict[str, Any]], About]:
        """The figures (evaluator, value, spread, images), and their receipt."""
        it = {"it": self.extractor}
        rows = figures.figures(self.asked, it, {"it": reference}, {"it": found}, self.options, self.device)
        receipt = figures.about(self.extractor, reference, found, self.options)
        return [{key: value for key, value in row.items() if key != "extractor"} for row in rows], receipt


def is_statistics(path: Path) -> bool:
    return path.suffix == ".npz" and "mu" in keys(path)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on the terminal; yields what hears how many are done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.update(bar, completed=done)
