"""The plot of accuracy over the noise level at several checkpoints."""

import math

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from diffprobe.reporting.plots import FAINT, LEGEND, PROBES, TICKS, apart, canvas, heading

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
