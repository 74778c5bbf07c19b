"""The plot of accuracy over the number of labels."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from diffprobe.reporting.plots import DASHES, GREY, LEGEND, PROBES, canvas, heading
from diffprobe.reporting.rows import ResultRow, Rows


def over_labels(evaluators: Mapping[str, Rows], whole: ResultRow, title: str = "", dpi: int = 110) -> Figure:
    """Accuracy on `test` against labels per class, a line for each evaluator, bars for the spread over its draws.

    `whole` is a row of an evaluator that was fitted with all labels: a dashed line.
    """
    figure, axes = canvas(6.4, 3.8, dpi)
    for i, (name, rows) in enumerate(evaluators.items()):
        frame = pd.DataFrame(rows)
        (colour, marker), dash = PROBES[i % len(PROBES)], DASHES[i // len(PROBES) % len(DASHES)]
        bars = 100 * frame["spread"].astype(float).fillna(0)
        x, y = frame["labels_per_class"], 100 * frame["value"]
        axes.errorbar(x, y, bars, fmt=marker, linestyle=dash, color=colour, markersize=5, capsize=3, label=name)
    label = f"{whole['evaluator']}, all labels"
    axes.axhline(100 * whole["value"], color=GREY, linewidth=1, linestyle=(0, (4, 2)), zorder=0, label=label)
    counts = sorted({row["labels_per_class"] for rows in evaluators.values() for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(counts, list(map(str, counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="labels per class", ylabel="accuracy on test (%)")
    heading(axes, title)
    axes.legend(**LEGEND)
    return figure
