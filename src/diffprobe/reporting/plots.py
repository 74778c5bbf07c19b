"""The plots: loss over training, generation against representation, accuracy over layer and noise.

Colours are those of Okabe and Ito (2008), which colour-blind people can tell apart; each curve has a
marker or a dash of its own besides.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diffprobe.config.names import level_name
from diffprobe.reporting.images import spread
from diffprobe.reporting.tables import is_distance

BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
INK, GREY, FAINT = "#333333", "#888888", "#DDDDDD"
LEGEND = {"frameon": False, "fontsize": 9, "labelcolor": INK}
TICKS = 8  # checkpoints named on the axis at most
WIDE = 30  # a ratio of distances from which the axis is logarithmic
PROBES = ((VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (INK, "P"))  # colours and markers

Rows = Sequence[dict]


def canvas(width: float, height: float, dpi: int) -> tuple[Figure, Axes]:
    """An empty plot, `width` x `height` inches, in the house's style."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    axes = figure.subplots()
    plain(axes)
    return figure, axes


def plain(axes: Axes) -> None:
    """Only the lines that carry something."""
    axes.spines["top"].set_visible(False)
    axes.spines[["left", "right", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=9, length=3, color=GREY, labelcolor=INK)
    axes.xaxis.label.set(fontsize=10, color=INK)
    axes.yaxis.label.set(fontsize=10, color=INK)


def heading(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, color=INK, pad=8)


# --- loss ---------------------------------------------------------------------------------------------------


def losses(runs: dict[str, Rows], dpi: int = 110) -> Figure:
    """Loss against thousands of images for each run's history: faint as recorded, bold as smoothed."""
    figure, axes = canvas(6.4, 3.2, dpi)
    colours = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
    for i, (name, rows) in enumerate(runs.items()):
        kimg = np.array([row["images"] for row in rows]) / 1000  # (ticks,)
        loss = pd.Series([row["loss"] for row in rows], dtype=float)
        colour = colours[i % len(colours)]
        axes.plot(kimg, loss, color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(kimg, smooth(loss), color=colour, linewidth=1.8, label=name)
    axes.set(xlabel="training images (thousands)", ylabel="training loss", yscale="log")
    axes.set_xlim(left=0)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < 20 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.spines["right"].set_visible(False)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    if len(runs) > 1:
        axes.legend(**LEGEND)
    else:
        heading(axes, next(iter(runs)))
    return figure


def smooth(values: pd.Series) -> pd.Series:
    """A running geometric mean over a twentieth of the curve: what a logarithmic axis shows as the middle."""
    window = max(1, len(values) // 20)
    return np.exp(np.log(values).rolling(window, center=True, min_periods=1).mean())


# --- generation and representation over training ------------------------------------------------------------


def curves(rows: Rows, choice: dict | None = None, dpi: int = 110) -> Figure:
    """Distance of samples (left) and accuracy of features on `select` (right) against training images.

    An axis for which there are no rows is left out.
    """
    frame = pd.DataFrame(rows).dropna(subset=["kimg"]).sort_values("kimg", kind="stable")
    figure, left = canvas(6.4, 3.8, dpi)
    right = left.twinx()
    plain(right)
    names, lines = draw_distances(left, frame[frame["evaluator"].map(is_distance)])
    probes = draw_probes(right, frame[frame["split"].isin(["select", "published"])])
    right.yaxis.set_visible(bool(probes))
    left.yaxis.set_visible(bool(names))
    lines += probes
    left.set(xlabel="training images (thousands)", ylabel=f"{', '.join(names)} (lower is better)")
    if names:
        scale_distances(left)
    left.yaxis.label.set_color(BLUE)
    left.tick_params(axis="y", colors=BLUE)
    left.spines["left"].set_color(BLUE)
    left.spines["right"].set_visible(False)
    right.spines["left"].set_visible(False)
    published = (frame["split"] == "published").any()
    right.set_ylabel("accuracy on test, as published (%)" if published else "accuracy on select (%)")
    left.margins(x=0.06)
    mark_checkpoints(left, frame["kimg"].astype(int).unique().tolist(), choice["kimg"] if choice else None)
    heading(left, frame["experiment"].iloc[0])
    figure.legend(handles=lines, loc="outside upper center", ncols=3, **LEGEND)
    return figure


def draw_distances(axes: Axes, frame: pd.DataFrame) -> tuple[list[str], list[Artist]]:
    """A line for each distance and sampler; the names of the distances and the lines."""
    lines: list[Artist] = []
    several = "sampler" in frame and frame["sampler"].nunique() > 1
    keys = ["evaluator", "sampler"] if several else ["evaluator"]
    for i, (key, part) in enumerate(frame.groupby(keys, sort=False)):
        style = {"linestyle": ("-", "--", ":", "-.")[i % 4], "marker": "o", "markersize": 5, "color": BLUE}
        lines += axes.plot(part["kimg"], part["value"], label=", ".join(key), **style)
    return list(frame["evaluator"].unique()), lines


def scale_distances(axes: Axes) -> None:
    """An axis from zero, or a logarithmic one where zero would flatten what is small."""
    low, high = axes.dataLim.intervaly
    if low > 0 and high > WIDE * low:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def draw_probes(axes: Axes, frame: pd.DataFrame) -> list[Artist]:
    """A line for each probe, in per cent, with its spread over seeds, where it has one, as bars."""
    lines: list[Artist] = []
    for i, (label, part) in enumerate(frame.groupby("evaluator", sort=False)):
        colour, marker = PROBES[i % len(PROBES)]
        kimg, accuracy = part["kimg"], 100 * part["value"]
        if "spread" in part and part["spread"].notna().any():
            bars = 100 * part["spread"].astype(float)
            axes.errorbar(kimg, accuracy, bars, fmt="none", ecolor=colour, capsize=3, elinewidth=1)
        lines += axes.plot(kimg, accuracy, color=colour, marker=marker, markersize=5, label=label)
    return lines


def mark_checkpoints(axes: Axes, checkpoints: list[int], chosen: int | None) -> None:
    """Ticks at checkpoints, as many as are legible, and a dotted line at the chosen one."""
    ticks = [checkpoints[i] for i in spread(len(checkpoints), TICKS)]
    if chosen is not None:
        room = (checkpoints[-1] - checkpoints[0]) / (1.5 * TICKS)
        ticks = [chosen, *(tick for tick in ticks if abs(tick - chosen) > room)]
        axes.axvline(chosen, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    axes.set_xticks(ticks, [f"{tick}\nchosen" if tick == chosen else str(tick) for tick in ticks])


# --- accuracy over layer and noise --------------------------------------------------------------------------


def heatmap(grid: pd.DataFrame, choice: dict, title: str = "", taps: Sequence[str] = (), dpi: int = 110) -> Figure:
    """Accuracy of every cell: taps downwards in the order of computation (`taps`), noise rising to the right.

    grid: columns tap, level, sigma, log_snr, accuracy in [0, 1]; `choice` names the cell to frame.
    """
    levels = grid.drop_duplicates("level").sort_values("sigma", na_position="first")  # no sigma: clean
    known = [tap for tap in taps if tap in set(grid["tap"])] or list(grid["tap"].unique())
    best = grid.groupby(["tap", "level"])["accuracy"].max()  # of the settings tried
    cells = 100 * best.unstack().loc[known, levels["level"]]
    rows, columns = cells.shape
    figure, axes = canvas(max(1.1 + 0.68 * columns, 4.2), 1.35 + 0.34 * rows, dpi)
    error = (100 - cells).clip(lower=0.1)  # on a logarithmic scale, lest bad cells take all the colours
    write_cells(axes, axes.imshow(error, cmap="YlGnBu_r", norm=LogNorm(), aspect="auto"), cells.to_numpy())
    axes.set_xticks(range(columns), [level_label(row) for row in levels.itertuples()])
    axes.set_yticks(range(rows), known)
    axes.set_xlabel("log-SNR of the input, and its noise σ")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    at = list(levels["level"]).index(choice["level"]), known.index(choice["tap"])
    frame = {"edgecolor": VERMILION, "facecolor": "none", "linewidth": 2.5, "clip_on": False, "zorder": 3}
    axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, **frame))
    heading(axes, title)
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str], title: str = "", dpi: int = 110) -> Figure:
    """How often images of each class (downwards) are taken for each (to the right), in per cent of the class.

    counts: (K, K). Numbers are written for 20 classes or fewer.
    """
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= 20
    side = 1.6 + (0.42 * len(classes) if few else 5)
    figure, axes = canvas(side + 0.4, side, dpi)
    beside = np.where(np.eye(len(classes)), np.nan, share)
    image = axes.imshow(beside, cmap="YlOrBr", vmin=0, vmax=max(errors(share), 1))
    for i, right in enumerate(np.diag(share) if few else []):
        axes.text(i, i, f"{right:.0f}", ha="center", va="center", fontsize=9, color=INK, weight="bold")
    for (y, x), value in np.ndenumerate(share if few else np.empty((0, 0))):
        if x != y and value >= 0.5:
            ink = "white" if value > 0.7 * image.norm.vmax else "black"
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8, color=ink)
    ticks = range(len(classes)) if few else []
    axes.set_xticks(ticks, [classes[i] for i in ticks], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [classes[i] for i in ticks])
    axes.set(xlabel="taken for", ylabel="class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    heading(axes, title)
    return figure


def errors(share: np.ndarray) -> float:
    """The largest entry beside the diagonal."""
    return float((share - np.diag(np.diag(share))).max(initial=0))


def write_cells(axes: Axes, image: AxesImage, cells: np.ndarray) -> None:
    """The number in each of the cells (taps, levels), dark on light colours and light on dark ones."""
    light = image.to_rgba(image.get_array())[..., :3] @ (0.3, 0.59, 0.11)  # (taps, levels)
    for (y, x), value in np.ndenumerate(cells):
        ink = "black" if light[y, x] > 0.5 else "white"
        axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=9, color=ink)


def level_label(row: NamedTuple) -> str:
    """Log-SNR above sigma; a level without noise is called clean."""
    if not math.isfinite(row.log_snr):
        return "clean"
    return f"{row.log_snr:.1f}\nσ {level_name(row.sigma)}".replace("-", "−")
