"""One figure of the report, selected by the job's name: `plot_grid.NAME.KIMG` draws the grid of a checkpoint.

Config: `FigureOptions`. The inputs depend on the figure.
"""

from dataclasses import dataclass

from diffprobe.runtime.job import Job, run

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL.Image import Image

from diffprobe.data.samples import open_samples
from diffprobe.reporting import images, plots
from diffprobe.runtime.files import atomic
from diffprobe.runtime.results import read_arrays, read_lines, read_result, read_rows, refuse_changed


@dataclass(frozen=True)
class FigureOptions:
    """The argument: options of `report`, and what some figures need besides."""

    columns: int
    rows: int
    scale: int  # screen pixels per image pixel
    dpi: int
    experiment: str = ""
    kimg: int = 0
    taps: tuple[str, ...] = ()  # in the order of computation
    evaluator: str = ""


def samples(job: Job, options: FigureOptions) -> Image:
    """A grid of the first samples."""
    store = open_samples(job.input("samples"))
    shown = min(store.shape[0], options.columns * options.rows)
    return images.grid(store.read(0, shown), options.columns, options.rows, options.scale)


def strip(job: Job, options: FigureOptions) -> Figure:
    """Samples during denoising."""
    steps = read_arrays(job.input("strip"))  # images uint8 (n, steps, H, W, C), sigmas (steps,)
    return images.strip(steps["images"], steps["sigmas"], options.scale, options.dpi)


def nearest(job: Job, options: FigureOptions) -> Figure:
    """Samples beside their nearest training images."""
    pairs = read_arrays(job.input("pairs"))  # queries uint8 (n, H, W, C), found uint8 (n, k, H, W, C), ratios (n,)
    arrays = pairs["queries"], pairs["found"], pairs["ratios"]
    return images.neighbours(*arrays, options.scale, options.dpi, str(pairs["kind"]))


def reconstruction(job: Job, options: FigureOptions) -> Image:
    """Originals above their reconstructions by the autoencoder."""
    originals, decoded = read_arrays(job.input("pairs"))["images"]  # uint8 (n, S, S, C) each
    return images.pairs(originals, decoded, options.columns, options.scale)


def grid(job: Job, options: FigureOptions) -> Figure:
    """Accuracy over layer and noise level, with the chosen cell framed."""
    refuse_changed(job.input("grid"))
    accuracies = pd.read_csv(job.input("grid"), dtype={"level": str})
    choice, name = read_result(job.input("select"), lambda select: (select["choice"], select["rows"][0]["experiment"]))
    split = "test, as published" if choice["selection"] == "published" else "select"
    title = f"{name} at {options.kimg} thousand images:\naccuracy of {choice['scorer']} on {split} (%)"
    return plots.heatmap(accuracies, choice, title, options.taps, options.dpi)


def confusion(job: Job, options: FigureOptions) -> Figure:
    """The confusion matrix on `test` of the evaluator that scored the grid."""
    test = read_result(job.input("rows"), dict)
    row = test["rows"][0]
    selection = ", chosen on test, as published" if row["selection"] == "published" else ""
    heading = f"{options.experiment}, {options.evaluator} on test{selection}:"
    title = f"{heading}\n{row['value']:.1%} correct; % of each class"
    return plots.confusion(np.array(test["confusion"]), test["classes"], title, options.dpi)


def losses(job: Job, options: FigureOptions) -> Figure:
    """The loss over a whole training run."""
    rows = [row for path in job.group("stats") for row in read_lines(path)]
    return plots.losses(options.experiment, rows, options.dpi)


def curves(job: Job, options: FigureOptions) -> Figure:
    """Metrics and accuracy over training, with the chosen checkpoint marked."""
    rows = [row for path in job.group("results") for row in read_rows(path)]
    choice = read_result(job.input("choice"), dict) if "choice" in job.inputs else None
    return plots.curves(rows, choice, options.dpi)


FIGURES = {
    "plot_samples": samples,
    "plot_strip": strip,
    "plot_nearest": nearest,
    "plot_reconstruction": reconstruction,
    "plot_grid": grid,
    "plot_confusion": confusion,
    "plot_losses": losses,
    "plot_curves": curves,
}


def main(job: Job) -> None:
    figure = FIGURES[job.progress.name.partition(".")[0]](job, FigureOptions(**job.config))
    with atomic(job.output("plot")) as partial:
        if isinstance(figure, Figure):
            figure.savefig(partial)
        else:
            figure.save(partial)


if __name__ == "__main__":
    run(main)
