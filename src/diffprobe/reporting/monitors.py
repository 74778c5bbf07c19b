"""Plots of label-free figures: over layer and noise at a checkpoint, and over training beside accuracy."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffprobe.config.names import level_title
from diffprobe.reporting.plots import BLUE, VERMILION, heading, level_label, style, write_cells
from diffprobe.reporting.rows import Choice

CELL = ["tap", "level", "sigma", "log_snr"]  # columns that name a cell; the others are figures


def heatmaps(frame: pd.DataFrame, title: str, taps: Sequence[str], dpi: int = 110) -> Figure:
    """A panel for each figure: taps downwards in the order of computation (`taps`), noise rising to the right.

    frame: columns CELL, and one for each figure. A figure that a cell does not have leaves it empty.
    """
    levels = frame.drop_duplicates("level").sort_values("sigma")
    rows = [tap for tap in taps if tap in set(frame["tap"])]
    figures = [name for name in frame if name not in CELL]
    columns = min(len(figures), 3)
    size = max(0.9 + 0.62 * len(levels), 2.6), 1.2 + 0.34 * len(rows)
    figure, panels = panels_of(len(figures), columns, size, dpi)
    for axes, name in zip(panels, figures, strict=True):
        style(axes)
        cells = frame.set_index(["tap", "level"])[name].unstack().loc[rows, levels["level"]]  # (taps, levels)
        image = axes.imshow(cells, cmap="YlGnBu", aspect="auto")
        write_cells(axes, image, cells.to_numpy(), digits(cells.to_numpy()))
        axes.set_xticks(range(len(levels)), list(map(level_label, levels["log_snr"], levels["sigma"])))
        axes.set_yticks(range(len(rows)), rows if axes in panels[::columns] else [])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        heading(axes, name)
    figure.supxlabel("log-SNR of the input, and its noise σ" if levels["sigma"].any() else "input", fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def panels_of(count: int, columns: int, size: tuple[float, float], dpi: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels of `size` inches each, in lines of `columns`."""
    lines = -(-count // columns)
    figure = Figure(figsize=(0.6 + size[0] * columns, 0.7 + size[1] * lines), dpi=dpi, layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flatten())
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def digits(values: np.ndarray) -> int:
    """Decimals at which three digits of the largest value show."""
    largest = np.nanmax(np.abs(values), initial=1e-3, where=np.isfinite(values))
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 3))


def curves(frame: pd.DataFrame, accuracies: pd.DataFrame, choice: Choice, title: str, dpi: int = 110) -> Figure:
    """A panel for each figure of the chosen cell against training images (left axis), beside its accuracy (right).

    frame: columns kimg, CELL and the figures; accuracies: kimg, tap, level, accuracy in [0, 1] of each setting tried.
    """
    own, probed = (of_cell(each, choice) for each in (frame, accuracies))
    accuracy = 100 * probed.groupby("kimg")["accuracy"].max()
    figures = [name for name in frame if name not in [*CELL, "kimg"] and own[name].notna().any()]
    figure, panels = panels_of(max(len(figures), 1), max(min(len(figures), 3), 1), (3.5, 2.5), dpi)
    if not figures:  # images may be too few for any
        panels[0].axis("off")
        panels[0].text(0.5, 0.5, "no figure at the chosen cell", ha="center", va="center", fontsize=10)
    for axes, name in zip(panels, figures, strict=False):
        style(axes)
        axes.plot(own["kimg"], own[name], color=BLUE, marker="o", markersize=5)
        side(axes, name, BLUE)
        axes.set_xlabel("training images (thousands)")
        right = axes.twinx()
        style(right)
        right.plot(accuracy.index, accuracy, color=VERMILION, marker="s", markersize=5, linestyle="--")
        side(right, f"{choice['scorer']} (%)", VERMILION)
    where = f"{choice['tap']} at {level_title(choice['sigma'])}, the chosen cell"
    figure.suptitle(f"{title}\n{where}", x=0.01, ha="left", fontsize=10)
    return figure


def curve_table(frame: pd.DataFrame, accuracies: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """What `curves` shows of the chosen cell: a line for each checkpoint."""
    own, probed = (of_cell(each, choice) for each in (frame, accuracies))
    accuracy = probed.groupby("kimg")["accuracy"].max().rename(f"{choice['scorer']} accuracy")
    columns = ["kimg", *(name for name in own if name != "kimg")]
    return own[columns].merge(accuracy, left_on="kimg", right_index=True)


def of_cell(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    return frame[(frame["tap"] == choice["tap"]) & (frame["level"] == choice["level"])].sort_values("kimg")


def side(axes: Axes, label: str, colour: str) -> None:
    """The label of a vertical axis and its ticks in the colour of its curve."""
    axes.set_ylabel(label, color=colour)
    axes.tick_params(axis="y", labelcolor=colour)
