"""Figures of the report: of an experiment all, of a store of latents its reconstructions.

Config: `FigureOptions`. Outputs: one figure each, by the names of `plan.figures`, as in `grid/28`, and of some, as
`data/curves`, a table of what it shows; of an experiment also `page`, which holds them all. Inputs by the names there,
and receipts.N of the experiment's results.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffprobe.runtime.job import Job, run

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL.Image import Image

from diffprobe.data.samples import open_samples
from diffprobe.reporting import (
    feature_plots,
    html,
    images,
    label_plots,
    mask_pictures,
    mosaics,
    noise_plots,
    plots,
    similarity,
)
from diffprobe.reporting import monitors as label_free
from diffprobe.reporting.experiment_page import Drawn, page, read_receipts
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
    taps: tuple[str, ...] = ()  # in the order of computation
    evaluator: str = ""  # that scored the grid


@dataclass(frozen=True)
class WithData:
    """A figure and a table of what it shows."""

    figure: Figure
    data: pd.DataFrame


def samples(job: Job, at: str, options: FigureOptions) -> Image:
    """A grid of the first samples."""
    store = open_samples(job.input(f"samples/{at}"))
    shown = min(store.shape[0], options.columns * options.rows)
    return mosaics.grid(store.read(0, shown), options.columns, options.rows, options.scale)


def strip(job: Job, at: str, options: FigureOptions) -> Figure:
    """Samples during denoising."""
    # images and, if asked for, noisy uint8 (n, steps, H, W, C), sigmas (steps,)
    steps = read_arrays(job.input(f"strip/{at}"))
    return images.strip(steps["images"], steps["sigmas"], options.scale, options.dpi, steps.get("noisy"))


def nearest(job: Job, at: str, options: FigureOptions) -> WithData:
    """Samples beside their nearest training images."""
    # queries uint8 (n, H, W, C), found uint8 (n, k, H, W, C), ratios (n,)
    pairs = read_arrays(job.input(f"pairs/{at}"))
    arrays = pairs["queries"], pairs["found"], pairs["ratios"]
    figure = images.neighbours(*arrays, options.scale, options.dpi, str(pairs["kind"]))
    return WithData(figure, pd.DataFrame({"row": range(1, len(pairs["ratios"]) + 1), "ratio": pairs["ratios"]}))


def decodings(job: Job, at: str, options: FigureOptions) -> Figure:
    """Decodings of codes: by different noise, between two, with one part of another's."""
    # images uint8 (n, H, W, C), and rows of decodings uint8 (rows, columns, H, W, C)
    return images.decodings(read_arrays(job.input(f"decodings/{at}")), options.scale, options.dpi)


def reconstruction(job: Job, at: str, options: FigureOptions) -> Image:
    """Originals above their reconstructions by the autoencoder."""
    originals, decoded = read_arrays(job.input("pairs"))["images"]  # uint8 (n, S, S, C) each
    return mosaics.pairs(originals, decoded, options.columns, options.scale)


def grid(job: Job, at: str, options: FigureOptions) -> WithData:
    """Accuracy over layer and noise level at one checkpoint, with the chosen cell framed."""
    accuracies = read_cells(job, "grid", at)
    read = read_result(job.input(f"select/{at}"), lambda select: (select["choice"], select["rows"][0]["experiment"]))
    choice, name = read
    split = "test, as published" if choice["selection"] == "published" else "select"
    title = f"{name} at {at} thousand images:\naccuracy of {choice['scorer']} on {split} (%)"
    return WithData(plots.heatmap(accuracies, choice, title, options.taps, options.dpi), accuracies)


def monitors(job: Job, at: str, options: FigureOptions) -> WithData:
    """Label-free figures over layer and noise level at one checkpoint."""
    title = f"{options.experiment} at {at} thousand images, without labels"
    cells = read_cells(job, "monitors", at)
    return WithData(label_free.heatmaps(cells, title, options.taps, options.dpi), cells)


def monitor_curves(job: Job, at: str, options: FigureOptions) -> WithData:
    """Label-free figures of the chosen cell over training, beside its accuracy."""
    choice = read_result(job.input("choice"), dict)
    kimgs = [name.partition("/")[2] for name in job.inputs if name.startswith("monitors/")]
    frames = [
        pd.concat([read_cells(job, kind, kimg).assign(kimg=int(kimg)) for kimg in kimgs])
        for kind in ("monitors", "grid")
    ]
    figure = label_free.curves(*frames, choice, options.experiment, options.dpi)
    return WithData(figure, label_free.curve_table(*frames, choice))


def noise(job: Job, at: str, options: FigureOptions) -> WithData:
    """Accuracy at the best layer over noise level, at every checkpoint."""
    kimgs = [name.partition("/")[2] for name in job.inputs if name.startswith("grid/")]
    grids = pd.concat([read_cells(job, "grid", kimg).assign(kimg=int(kimg)) for kimg in kimgs])
    choice = read_result(job.input(f"select/{kimgs[0]}"), lambda select: select["choice"])
    split = "test, as published" if choice["selection"] == "published" else "select"
    title = f"{options.experiment}, {choice['scorer']} at the best layer"
    figure = noise_plots.over_noise_and_training(grids, title, split, options.dpi)
    return WithData(figure, noise_plots.best_layers(grids))


def read_cells(job: Job, kind: str, at: str) -> pd.DataFrame:
    """A table with a line for each cell of a checkpoint's grid, and perhaps for each setting."""
    refuse_changed(job.input(f"{kind}/{at}"))
    return pd.read_csv(job.input(f"{kind}/{at}"), dtype={"level": str})


def layers(job: Job, at: str, options: FigureOptions) -> WithData:
    """Similarity between the cells of a checkpoint."""
    drawn, neighbours = read_result(job.input("similarity"), lambda maps: (maps["layers"][at], maps["neighbours"]))
    title = f"{options.experiment} at {at} thousand images: similarity between layers and noise levels"
    return similarity_maps({"": drawn}, neighbours, title, options)


def training(job: Job, at: str, options: FigureOptions) -> WithData:
    """Similarity between checkpoints, at the chosen cell."""
    drawn, neighbours = read_result(job.input("similarity"), lambda maps: (maps["training"], maps["neighbours"]))
    title = f"{options.experiment}: similarity between checkpoints (thousands of images), at the chosen cell"
    return similarity_maps({"": drawn}, neighbours, title, options)


def experiments(job: Job, at: str, options: FigureOptions) -> WithData:
    """Similarity between the cells of the chosen checkpoint and those of other experiments'."""
    drawn, neighbours = read_result(job.input("similarity"), lambda maps: (maps["experiments"], maps["neighbours"]))
    title = f"{options.experiment} (downwards) beside other experiments, each at its chosen checkpoint"
    return similarity_maps(drawn, neighbours, title, options)


def similarity_maps(several: dict[str, Any], neighbours: int, title: str, options: FigureOptions) -> WithData:
    return WithData(similarity.maps(several, neighbours, title, options.dpi), similarity.table(several))


def maps(job: Job, at: str, options: FigureOptions) -> WithData:
    """Principal components of features at every position, beside their images."""
    arrays = read_arrays(job.input("pictures"))
    title = f"{feature_plots.place(arrays, options.experiment)}:\nprincipal components (PC) of features"
    return WithData(feature_plots.maps(arrays, title, options.dpi), feature_plots.map_table(arrays))


def plane(job: Job, at: str, options: FigureOptions) -> WithData:
    """Images beside those with similar features."""
    arrays = read_arrays(job.input("pictures"))
    count, where = len(arrays["plane"]), feature_plots.place(arrays, options.experiment)
    title = f"{where}:\n{arrays['chosen']}, the chosen layer, of {count} test images"
    return WithData(feature_plots.plane(arrays, title, options.dpi), feature_plots.plane_table(arrays))


def confusion(job: Job, at: str, options: FigureOptions) -> WithData:
    """The confusion matrix on `test` of the evaluator that scored the grid."""
    test = read_result(job.input("test"), dict)
    row = test["rows"][0]
    selection = ", chosen on test, as published" if row["selection"] == "published" else ""
    heading = f"{options.experiment}, {options.evaluator} on test{selection}:"
    title = f"{heading}\n{row['value']:.1%} correct; % of each class"
    counts, classes = np.array(test["confusion"]), test["classes"]
    table = pd.DataFrame(counts, columns=classes)
    table.insert(0, "class", classes, allow_duplicates=True)
    return WithData(plots.confusion(counts, classes, title, options.dpi), table)


def fewshot(job: Job, at: str, options: FigureOptions) -> WithData:
    """Accuracy on `test` over the number of labels."""
    few = {path.stem: read_rows(path) for path in inputs(job, "few")}
    few = {name: [row for row in rows if not row["evaluator"].endswith("_top5")] for name, rows in few.items()}
    whole = read_rows(job.input("test"))[0]
    figure = label_plots.over_labels(few, whole, options.experiment, options.dpi)
    return WithData(figure, pd.DataFrame([whole, *(row for rows in few.values() for row in rows)]))


def masks(job: Job, at: str, options: FigureOptions) -> Figure:
    """Test images, their masks, and those that each evaluator predicts."""
    # images uint8 (n, H, W, C), truth and predicted_NAME int64 (n, H, W), classes: names
    pictures = {Path(path).stem: read_arrays(Path(path)) for path in inputs(job, "masks")}
    return mask_pictures.masks(pictures, options.scale, options.dpi)


def losses(job: Job, at: str, options: FigureOptions) -> WithData:
    """The loss over a whole training run."""
    rows = [row for path in inputs(job, "stats") for row in read_lines(path)]
    return WithData(plots.losses(options.experiment, rows, options.dpi), pd.DataFrame(rows))


def curves(job: Job, at: str, options: FigureOptions) -> WithData:
    """Metrics and accuracy over training, with the chosen checkpoint marked."""
    rows = [row for path in inputs(job, "generation") + inputs(job, "select") for row in read_rows(path)]
    choice = read_result(job.input("choice"), dict) if "choice" in job.inputs else None
    return WithData(plots.curves(rows, choice, options.dpi), pd.DataFrame(rows))


def inputs(job: Job, kind: str) -> list[Path]:
    """The inputs of a kind, of all checkpoints and samplers in order."""
    return [Path(path) for name, path in job.inputs.items() if name.startswith(f"{kind}/")]


def levels(job: Job, at: str, options: FigureOptions) -> WithData:
    """Accuracy on `test` over noise level, of all classifiers of a dataset."""
    rows = [row for path in job.group("rows") for row in read_rows(path)]
    return WithData(noise_plots.accuracy_over_noise(rows, options.dpi), pd.DataFrame(rows))


# Each draws the figure KIND/AT: `at` is a checkpoint and, of samples, a sampler.
FIGURES: dict[str, Callable[[Job, str, FigureOptions], Figure | Image | WithData]] = {
    "samples": samples,
    "strip": strip,
    "nearest": nearest,
    "decodings": decodings,
    "reconstruction": reconstruction,
    "grid": grid,
    "noise": noise,
    "monitors": monitors,
    "monitor_curves": monitor_curves,
    "similarity": layers,
    "similarity_training": training,
    "similarity_experiments": experiments,
    "maps": maps,
    "plane": plane,
    "confusion": confusion,
    "fewshot": fewshot,
    "masks": masks,
    "losses": losses,
    "curves": curves,
    "levels": levels,
}


def main(job: Job) -> None:
    options = FigureOptions(**job.config)
    names = [name for name in job.outputs if name != "page" and not name.startswith("data/")]
    job.progress.start(len(names), "figures")
    drawings: list[Drawn] = []
    for done, name in enumerate(names, start=1):
        kind, _, at = name.partition("/")
        drawn = FIGURES[kind](job, at, options)
        data = None
        if isinstance(drawn, WithData):
            data = drawn.data.to_csv(index=False).encode(errors="replace")  # of names that are no text
            write(job, f"data/{name}", data)
            drawn = drawn.figure
        drawings.append(Drawn(kind, at, as_png(drawn), data))
        write(job, name, drawings[-1].png)
        job.progress.update(done)
    if "page" in job.outputs:
        receipts = read_receipts(job.group("receipts"), job.output("page").parent)
        choice = read_result(job.input("choice"), dict) if "choice" in job.inputs else None
        with atomic(job.output("page")) as partial:
            html.save(partial, page(options.experiment, drawings, choice, receipts))


def as_png(drawn: Figure | Image) -> bytes:
    file = io.BytesIO()
    if isinstance(drawn, Figure):
        drawn.savefig(file, format="png")
    else:
        drawn.save(file, format="png")
    return file.getvalue()


def write(job: Job, name: str, content: bytes) -> None:
    with atomic(job.output(name)) as partial:
        partial.write_bytes(content)


if __name__ == "__main__":
    run(main)
