"""Plots of accuracy over the noise level: at several checkpoints, and of several classifiers."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from diffprobe.reporting.plots import (
    FAINT,
    GREY,
    INK,
    LEGEND,
    PROBES,
    TICKS,
    canvas,
    draw_accuracy,
    heading,
    legend_above,
)
from diffprobe.reporting.rows import Rows

FEW, IN_COLUMN = 8, 16  # checkpoints: in a legend inside the plot, and in a column beside it


def over_noise_and_training(grids: pd.DataFrame, title: str = "", split: str = "select", dpi: int = 110) -> Figure:
    """Accuracy at the best layer over noise level, a curve for each checkpoint, later ones darker.

    grids: columns kimg, tap, sigma, accuracy in [0, 1]; cells without noise are left out.
    """
    best = best_layers(grids)
    figure, axes = canvas(6.4, 3.8, dpi)
    checkpoints = sorted(best["kimg"].unique())
    colours = colormaps["viridis_r"](np.linspace(0.15, 1, len(checkpoints)))  # light yellow would be illegible
    for i, (kimg, colour) in enumerate(zip(checkpoints, colours, strict=True)):
        part, (_, marker) = best[best["kimg"] == kimg], PROBES[i % len(PROBES)]
        axes.plot(part["sigma"], 100 * part["accuracy"], color=colour, marker=marker, markersize=5, label=str(kimg))
    sigmas = sorted(best["sigma"].unique())
    axes.set_xscale("log")
    ticks = apart(sigmas, TICKS)
    axes.set_xticks(ticks, [f"{sigma:.3g}" for sigma in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="noise level σ", ylabel=f"accuracy on {split} (%)")
    axes.spines["right"].set_visible(False)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    heading(axes, title)
    if len(checkpoints) > FEW:  # inside it would cover the curves
        columns = math.ceil(len(checkpoints) / IN_COLUMN)
        figure.legend(loc="outside right upper", title="thousand images", title_fontsize=9, ncols=columns, **LEGEND)
    else:
        axes.legend(title="thousand images", title_fontsize=9, **LEGEND)
    return figure


def best_layers(grids: pd.DataFrame) -> pd.DataFrame:
    """The best cell of each checkpoint and noise level, by rising noise."""
    noisy = grids[grids["sigma"] > 0].reset_index(drop=True)
    return noisy.loc[noisy.groupby(["kimg", "sigma"])["accuracy"].idxmax()].sort_values(["kimg", "sigma"])


def accuracy_over_noise(rows: Rows, dpi: int = 110) -> Figure:
    """Accuracy of classifiers of one dataset over log-SNR, noise rising to the right: a curve for each evaluator of
    each experiment. Rows without a level are left out.
    """
    frame = pd.DataFrame(rows).dropna(subset=["sigma"])
    frame = frame[~frame["evaluator"].str.endswith("_top5")].sort_values("sigma", kind="stable")
    figure, axes = canvas(6.4, 4.2, dpi)
    lines: list[Line2D] = []
    for i, ((experiment, evaluator), part) in enumerate(frame.groupby(["experiment", "evaluator"], sort=False)):
        log_snr = -2 * np.log(part["sigma"])
        lines += draw_accuracy(axes, log_snr, part, f"{experiment}, {evaluator}", i)
    axes.invert_xaxis()
    axes.set(xlabel="log-SNR of the image", ylabel="accuracy on test (%)")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    low, high = np.log10(frame["sigma"].agg(["min", "max"]))
    sigmas = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]  # powers of ten within the levels
    if len(sigmas) < 2:
        sigmas = apart(frame["sigma"].unique().tolist(), TICKS)
    above = axes.secondary_xaxis("top")
    above.set_xticks([-2 * math.log(sigma) for sigma in sigmas], [f"σ {sigma:.3g}" for sigma in sigmas])
    above.tick_params(labelsize=9, length=3, color=GREY, labelcolor=INK)
    above.spines["top"].set_color(GREY)
    legend_above(figure, lines, most=2)
    return figure


def apart(values: Iterable[float], most: int) -> list[float]:
    """Some of the positive values, rising, so far apart on a logarithmic axis that `most` would fill it."""
    ticks: list[float] = []
    rising = sorted(values)
    room = math.log(rising[-1] / rising[0]) / most
    for value in rising:
        if not ticks or math.log(value / ticks[-1]) >= room:
            ticks.append(value)
    return ticks
