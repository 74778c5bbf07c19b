"""The figure that compares experiments: accuracy over noise level, over depth, against distance, and by evaluator."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from diffprobe.reporting.plots import (
    BLUE,
    DASHES,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    heading,
    legend_above,
    name_logarithmic,
    style,
)
from diffprobe.reporting.tables import FD, PROBE

COLOURS = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (INK, "P"), ("#56B4E9", "X"))
RING: Mapping[str, Any] = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "linestyle": ""}
BOX: Mapping[str, Any] = {"marker": "s", "markersize": 12, "markerfacecolor": "none", "linestyle": ""}
CLEAN = 1.5  # units of log-SNR that images without noise stand before the lowest level
LETTERS = {"level": "a", "layer": "b", "parting": "c", "evaluators": "d"}  # of panels, as the caption names them


class Look(NamedTuple):
    """Of an experiment, the same in all panels."""

    colour: str
    marker: str
    dash: str


def comparison(points: pd.DataFrame, names: Mapping[str, str], split: str, dataset: str, dpi: int = 110) -> Figure:
    """Four panels of the points of `reporting.comparison.points`; one without points is left out.

    names: of the experiments, with what the legend says of each; split: that on which cells were chosen.
    """
    shown = [panel for panel in LETTERS if (points["panel"] == panel).any()]
    looks = looks_of(names)
    evaluators = points.loc[points["panel"] == "evaluators", "series"].nunique()
    tall = max(3.1, 0.5 + evaluators * (0.18 + 0.07 * len(names)))
    heights = [3.1, tall] if len(shown) > 2 else [max(3.1, tall)]  # inches, the last with the evaluators
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(10.4, 0.5 + sum(heights)), dpi=dpi, layout=layout)
    panels = figure.subplots(len(heights), 2, gridspec_kw={"height_ratios": heights}, squeeze=False).flatten()
    draw = {"level": over_noise, "layer": over_depth, "parting": parting, "evaluators": by_evaluator}
    for panel, axes in zip(shown, panels, strict=False):
        style(axes)
        draw[panel](axes, points[points["panel"] == panel], looks, split)
        axes.set_title(f"{LETTERS[panel]}  {axes.get_title(loc='left')}", loc="left", fontsize=10, color=INK, pad=8)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    legend(figure, looks, names, f"Experiments on {dataset}", "parting" in shown)
    return figure


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """How each experiment looks, in order."""
    return {
        name: Look(*COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, name in enumerate(names)
    }


def legend(figure: Figure, looks: Mapping[str, Look], names: Mapping[str, str], title: str, boxes: bool) -> None:
    """A legend above the panels, with what rings mean, and boxes where there are any."""
    lines: list[Line2D] = []
    for name, look in looks.items():
        form: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "markersize": 5}
        lines.append(Line2D([], [], label=names[name], **form))
    lines.append(Line2D([], [], markeredgecolor=GREY, label="chosen, best features", **RING))
    if boxes:
        lines.append(Line2D([], [], markeredgecolor=GREY, label="best samples", **BOX))
    options = {"loc": "outside upper left", "title": title, "alignment": "left", "title_fontsize": 10}
    drawn = legend_above(figure, lines, most=3, **options)
    drawn.get_title().set_color(INK)


def curves(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """A line for each experiment, with rings around what it chose and boxes around its best samples."""
    for name, own in points.groupby("experiment", sort=False):
        look = looks[name]
        axes.plot(own["x"], own["y"], color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5)
        for mark, form in (("chosen", RING), (PROBE, RING), (FD, BOX)):
            marked = own[own["marked"].str.contains(mark)]
            axes.plot(marked["x"], marked["y"], markeredgecolor=look.colour, **form)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.spines["right"].set_visible(False)


def over_noise(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look], split: str) -> None:
    finite = points.loc[np.isfinite(points["x"]), "x"]
    clean = (finite.max() if len(finite) else 0) + CLEAN
    curves(axes, points.assign(x=points["x"].clip(upper=clean)), looks)
    axes.invert_xaxis()
    if len(finite) < len(points):
        lowest = min(finite, default=clean) - 1
        ticks = [tick for tick in axes.get_xticks() if lowest < tick < clean - CLEAN / 2]
        axes.set_xticks([*ticks, clean], [*(f"{tick:g}".replace("-", "−") for tick in ticks), "clean"])
    axes.set(xlabel="log-SNR of the noise level (noise grows to the right)", ylabel=f"accuracy on {split} (%)")
    heading(axes, "best layer at each noise level")


def over_depth(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look], split: str) -> None:
    curves(axes, points, looks)
    axes.set(xlabel="layer, from the first probed (0) to the last (1)", ylabel=f"accuracy on {split} (%)")
    axes.set_xlim(-0.04, 1.04)
    heading(axes, "best noise level at each layer")


def parting(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look], split: str) -> None:
    """Training runs from its first checkpoint, whose thousands of images are written beside it, to its last."""
    curves(axes, points, looks)
    distance = points["series"].iloc[0]
    for name, own in points.groupby("experiment", sort=False):
        for row in (own.iloc[0], own.iloc[-1])[: len(own)]:
            axes.annotate(
                f"{row['kimg']:g}k", (row["x"], row["y"]), (7, -11), textcoords="offset points", fontsize=8,
                color=looks[name].colour,
            )  # fmt: skip
    low, high = points["x"].min(), points["x"].max()
    if low > 0 and high > 4 * low:
        axes.set_xscale("log")
        axes.margins(0.1)
        name_logarithmic(axes.xaxis)
    else:
        axes.margins(0.1)
    axes.set(xlabel=f"{distance} of the samples (lower is better)", ylabel=f"accuracy on {split} (%)")
    heading(axes, "generation and representation over training")


def by_evaluator(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look], split: str) -> None:
    """Each evaluator a line, and in it the experiments from above in the order of the legend."""
    evaluators = list(dict.fromkeys(points["series"]))
    step = 0.7 / max(len(looks), 1)
    for i, (name, look) in enumerate(looks.items()):
        own = points[points["experiment"] == name]
        y = own["series"].map(evaluators.index) + (i - (len(looks) - 1) / 2) * step
        axes.errorbar(
            own["y"], y, xerr=own["spread"].astype(float).fillna(0), fmt=look.marker, color=look.colour, markersize=5,
            capsize=2, elinewidth=1,
        )  # fmt: skip
    axes.set_yticks(range(len(evaluators)), evaluators)
    axes.set_ylim(len(evaluators) - 0.5, -0.5)
    for border in range(1, len(evaluators)):
        axes.axhline(border - 0.5, color=FAINT, linewidth=0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    figure = "accuracy or mean IoU" if any(name.endswith("_miou") for name in evaluators) else "accuracy"
    axes.set(xlabel=f"{figure} on test (%), bars: standard deviation over seeds")
    axes.spines["right"].set_visible(False)
    heading(axes, "every evaluator, at the chosen layer and level")
