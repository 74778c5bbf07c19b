"""The plots: loss over training, generation against representation, accuracy over layer and noise.

The colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish; each curve also has its own
marker or dash.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diffprobe.config.names import level_name
from diffprobe.reporting.images import spread
from diffprobe.reporting.rows import Choice, LossRow, Rows
from diffprobe.reporting.tables import by_level, is_distance

BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
INK, GREY, FAINT = "#333333", "#888888", "#DDDDDD"
HANDLE, LETTER, LINE = 0.6, 0.075, 0.2  # inches in a legend: a handle with its spaces, a letter, a line
LEGEND: Mapping[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK}
TICKS = 8  # at most so many checkpoints are named on the axis
WIDE = 30  # the axis of distances is logarithmic when they span a larger ratio than this
PROBES = ((VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (INK, "P"))  # colours and markers
DASHES = ("-", "--", ":", "-.")
SMALL = 20  # a confusion matrix of at most so many classes has numbers and names
NAME_LENGTH = 24  # characters of a class's name at most

rcParams["text.parse_math"] = False  # names of classes are what users call their folders, `a$\\b$` too
# A name in a script that the font lacks is drawn as boxes; a line of warning per letter would not mend it.
warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")


def canvas(width: float, height: float, dpi: int) -> tuple[Figure, Axes]:
    """An empty plot of `width` x `height` inches in the common style."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    axes = figure.subplots()
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """Grey axes without a frame, small labels."""
    axes.spines["top"].set_visible(False)
    axes.spines[["left", "right", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=9, length=3, color=GREY, labelcolor=INK)
    axes.xaxis.label.set(fontsize=10, color=INK)
    axes.yaxis.label.set(fontsize=10, color=INK)


def heading(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, color=INK, pad=8)


def legend_above(figure: Figure, lines: Sequence[Line2D], most: int, **options: Any) -> Legend:
    """A legend above the panels in at most so many columns, and no more than its names leave room for."""
    longest = max((len(str(line.get_label())) for line in lines), default=0)
    columns = min(max(int(figure.get_figwidth() / (HANDLE + LETTER * longest)), 1), most)
    figure.set_figheight(figure.get_figheight() + LINE * max(-(-len(lines) // columns) - 2, 0))  # room for two is there
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": columns, **LEGEND, **options}
    return figure.legend(handles=list(lines), **place)


# --- loss ---------------------------------------------------------------------------------------------------


def losses(name: str, rows: Sequence[LossRow], dpi: int = 110) -> Figure:
    """A run's loss against thousands of images: faint as recorded, bold as smoothed."""
    figure, axes = canvas(6.4, 3.2, dpi)
    kimg = np.array([row["images"] for row in rows]) / 1000  # (N,)
    loss = pd.Series([row["loss"] for row in rows], dtype=float)
    axes.plot(kimg, loss, color=BLUE, alpha=0.3, linewidth=0.8)
    axes.plot(kimg, smooth(loss), color=BLUE, linewidth=1.8, marker="o" if len(rows) < 3 else None)
    axes.set(xlabel="training images (thousands)", ylabel="training loss", yscale="log")
    axes.set_xlim(left=0)
    name_logarithmic(axes.yaxis)
    axes.spines["right"].set_visible(False)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    heading(axes, name)
    return figure


def name_logarithmic(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis."""
    low, high = axis.get_view_interval()
    # Within about a decade, powers of ten alone would leave the axis with one tick or none.
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < 20 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def smooth(values: pd.Series) -> pd.Series:
    """A running geometric mean over a twentieth of the curve, which is the visual middle on a logarithmic axis."""
    window = max(1, len(values) // 20)
    return np.exp(np.log(values).rolling(window, center=True, min_periods=1).mean())


# --- generation and representation over training ------------------------------------------------------------


def curves(rows: Rows, choice: Choice | None = None, dpi: int = 110) -> Figure:
    """Distance of samples (left) and accuracy of features on `select` (right) against training images.

    An axis without rows is hidden.
    """
    frame = pd.DataFrame(rows).dropna(subset=["kimg"]).sort_values("kimg", kind="stable")
    figure, left = canvas(6.4, 3.8, dpi)
    right = left.twinx()  # distances and accuracies share the axis of images and no other
    style(right)
    names, lines = draw_distances(left, frame[frame["evaluator"].map(is_distance)])
    probes = draw_probes(right, frame[frame["split"].isin(["select", "published"]) & ~by_level(frame)])
    right.yaxis.set_visible(bool(probes))
    left.yaxis.set_visible(bool(names))
    left.spines["left"].set_visible(bool(names))
    distance = names[0] if len(names) == 1 else "distance of samples"  # several names are in the legend
    left.set(xlabel="training images (thousands)", ylabel=f"{distance} (lower is better)")
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
    legend_above(figure, lines + probes, most=3)
    return figure


def draw_distances(axes: Axes, frame: pd.DataFrame) -> tuple[list[str], list[Line2D]]:
    """A line for each distance and sampler; the names of the distances and the lines."""
    lines: list[Line2D] = []
    several = "sampler" in frame and frame["sampler"].nunique() > 1
    keys = ["evaluator", "sampler"] if several else ["evaluator"]
    for i, (key, part) in enumerate(frame.groupby(keys, sort=False)):
        dash = DASHES[i % len(DASHES)]
        label = ", ".join(key)
        lines += axes.plot(part["kimg"], part["value"], color=BLUE, linestyle=dash, marker="o", ms=5, label=label)
    return list(frame["evaluator"].unique()), lines


def scale_distances(axes: Axes) -> None:
    """An axis from zero, or a logarithmic one where a linear one would flatten the small distances."""
    low, high = axes.dataLim.intervaly
    if low > 0 and high > WIDE * low:
        axes.set_yscale("log")
        name_logarithmic(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)


def draw_probes(axes: Axes, frame: pd.DataFrame) -> list[Line2D]:
    """A line for each probe in per cent, with bars for its spread over seeds where it has one."""
    lines: list[Line2D] = []
    for i, (label, part) in enumerate(frame.groupby("evaluator", sort=False)):
        lines += draw_accuracy(axes, part["kimg"], part, label, i)
    return lines


def draw_accuracy(axes: Axes, x: pd.Series, rows: pd.DataFrame, label: str, number: int) -> list[Line2D]:
    """The line of the n-th probe over x (N,), in per cent, with bars for its spread over seeds where it has one."""
    (colour, marker), dash = PROBES[number % len(PROBES)], DASHES[number // len(PROBES) % len(DASHES)]
    accuracy = 100 * rows["value"]
    if "spread" in rows and rows["spread"].notna().any():
        bars = 100 * rows["spread"].astype(float)
        axes.errorbar(x, accuracy, bars, fmt="none", ecolor=colour, capsize=3, elinewidth=1)
    return axes.plot(x, accuracy, color=colour, marker=marker, linestyle=dash, markersize=5, label=label)


def mark_checkpoints(axes: Axes, checkpoints: list[int], chosen: int | None) -> None:
    """Ticks at checkpoints, as many as are legible, and a dotted line at the chosen one."""
    ticks = [checkpoints[i] for i in spread(len(checkpoints), TICKS)]
    if chosen is not None:
        # Its label has two lines and is wider, so ticks that are too near give way.
        # Two thirds of the mean spacing of TICKS labels.
        room = (checkpoints[-1] - checkpoints[0]) / (1.5 * TICKS)
        ticks = [chosen, *(tick for tick in ticks if abs(tick - chosen) > room)]
        axes.axvline(chosen, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    axes.set_xticks(ticks, [f"{tick}\nchosen" if tick == chosen else str(tick) for tick in ticks])


# --- accuracy over layer and noise --------------------------------------------------------------------------


def heatmap(grid: pd.DataFrame, choice: Choice, title: str = "", taps: Sequence[str] = (), dpi: int = 110) -> Figure:
    """Accuracy of every cell: taps downwards in the order of computation (`taps`), noise rising to the right.

    grid: columns tap, level, sigma, log_snr, accuracy in [0, 1]; `choice` names the cell to frame. A tap that is not
    computed at a level has an empty cell there.
    """
    levels = grid.drop_duplicates("level").sort_values("sigma")
    rows = [tap for tap in taps if tap in set(grid["tap"])] or list(grid["tap"].unique())
    best = grid.groupby(["tap", "level"])["accuracy"].max()  # of the settings tried
    cells = 100 * best.unstack().loc[rows, levels["level"]]  # (taps, levels)
    height, width = cells.shape
    figure, axes = canvas(max(1.1 + 0.68 * width, 4.2), 1.35 + 0.34 * height, dpi)
    # On a linear scale one bad cell would take most of the colours, and good cells would all look the same.
    error = (100 - cells).clip(lower=0.1)
    image = axes.imshow(error, cmap="YlGnBu_r", norm=LogNorm(), aspect="auto")
    write_cells(axes, image, cells.to_numpy())
    axes.set_xticks(range(width), list(map(level_label, levels["log_snr"], levels["sigma"])))
    axes.set_yticks(range(height), rows)
    axes.set_xlabel("log-SNR of the input, and its noise σ" if levels["sigma"].any() else "input")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    corner = list(levels["level"]).index(choice["level"]) - 0.5, rows.index(choice["tap"]) - 0.5
    # Not clipped, so that the frame of a cell at the edge has its full width.
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=VERMILION, linewidth=2.5, clip_on=False, zorder=3))
    heading(axes, title)
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str], title: str = "", dpi: int = 110) -> Figure:
    """How often images of each class (downwards) are classified as each (to the right), in per cent of the class.

    counts: (K, K). At most SMALL classes have numbers and names.
    """
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (K, K); a class may have no image
    few = len(classes) <= SMALL
    side = 1.6 + (0.42 * len(classes) if few else 5)
    names = LETTER * max(len(class_name(name)) for name in classes) if few else 0  # inches
    figure, axes = canvas(max(side + 0.4 + names, LETTER * len(title) + 0.5 + names), side + names / math.sqrt(2), dpi)
    # Only errors are coloured: the diagonal is so much larger that it would flatten them.
    mistakes = np.where(np.eye(len(classes)), np.nan, share)
    most = max(largest_error(share), 1)
    axes.imshow(mistakes, cmap="YlOrBr", vmin=0, vmax=most)
    for i, right in enumerate(np.diag(share) if few else []):
        axes.text(i, i, f"{right:.0f}", ha="center", va="center", fontsize=9, color=INK, weight="bold")
    for (y, x), value in np.ndenumerate(share if few else np.empty((0, 0))):
        if x != y and value >= 0.5:
            ink = "white" if value > 0.7 * most else "black"
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8, color=ink)
    ticks = range(len(classes)) if few else []
    axes.set_xticks(ticks, [class_name(classes[i]) for i in ticks], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [class_name(classes[i]) for i in ticks])
    axes.set(xlabel="classified as", ylabel="class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    heading(axes, title)
    return figure


def class_name(name: str) -> str:
    """A class's name in one short line, without what would move other text (line breaks, changes of direction)."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= NAME_LENGTH else f"{line[: NAME_LENGTH - 1]}…"


def largest_error(share: np.ndarray) -> float:
    """The largest entry off the diagonal of (K, K)."""
    return float((share - np.diag(np.diag(share))).max(initial=0))


def write_cells(axes: Axes, image: AxesImage, cells: np.ndarray, decimals: int = 1) -> None:
    """The number in each of the cells (taps, levels), black on light colours and white on dark ones."""
    luma = image.to_rgba(np.asarray(image.get_array()))[..., :3] @ (0.3, 0.59, 0.11)  # (taps, levels), by ITU-R BT.601
    for y, x in np.argwhere(np.isfinite(cells)):
        ink = "black" if luma[y, x] > 0.5 else "white"
        axes.text(x, y, f"{cells[y, x]:.{decimals}f}", ha="center", va="center", fontsize=9, color=ink)


def level_label(log_snr: float, sigma: float) -> str:
    """Log-SNR above sigma; a level without noise is called clean."""
    if not sigma:
        return "clean"
    return f"{log_snr:.1f}\nσ {level_name(sigma)}".replace("-", "−")
