"""Plots of similarity: CKA and CKNNA between cells, checkpoints and experiments."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from diffprobe.reporting.plots import heading, style, write_cells

WRITTEN = 12  # a map of at most so many rows has numbers
NAMED = 40  # of at most so many rows, each with its name; of more, those of each level with one

Map = Mapping[str, Any]  # rows, columns: their names; cka, cknna: values by row, None where there is none


def maps(several: Mapping[str, Map], neighbours: int, title: str, dpi: int = 110) -> Figure:
    """A line of two panels for each map, by its heading: CKA on the left, CKNNA on the right."""
    width, height = (max(side(drawn[names]) for drawn in several.values()) for names in ("columns", "rows"))
    size = 2 * width + 3.2, (height + 1.2) * len(several) + 0.4
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    panels = figure.subplots(len(several), 2, squeeze=False)
    for (name, drawn), line in zip(several.items(), panels, strict=True):
        measures = {"cka": "CKA", "cknna": f"CKNNA, {neighbours} neighbours"}
        for axes, (measure, words) in zip(line, measures.items(), strict=True):
            panel(axes, drawn, measure)
            heading(axes, f"{words}\nwith {name}" if name else words)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def table(several: Mapping[str, Map]) -> pd.DataFrame:
    """What `maps` shows: a line for each pair, whose names are checkpoints, or level and tap."""
    lines = []
    for name, drawn in several.items():
        for measure in ("cka", "cknna"):
            rows, columns = (list(map(cell_name, drawn[names])) for names in ("rows", "columns"))
            values = pd.DataFrame(drawn[measure], rows, columns)
            long = values.rename_axis("row").reset_index().melt("row", var_name="column", value_name="value")
            lines.append(long.assign(measure=measure, **{"with": name}))
    return pd.concat(lines, ignore_index=True)[["with", "measure", "row", "column", "value"]]


def cell_name(name: Any) -> str:
    """A checkpoint, or a cell's level and tap."""
    return str(name) if isinstance(name, int) else " ".join(map(str, name))


def side(names: Sequence[Any]) -> float:
    """Inches for so many cells."""
    return min(max(2.2, 0.24 * len(names)), 7)


def panel(axes: Axes, drawn: Map, measure: str) -> None:
    """One map, with its values between 0 and 1 as colours."""
    style(axes)
    values = np.array(drawn[measure], float)  # (A, B), NaN where there is none
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    if max(values.shape) <= WRITTEN:
        write_cells(axes, image, values, 2)
    elif axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, shrink=0.7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    name_ticks(axes.yaxis, drawn["rows"])
    name_ticks(axes.xaxis, drawn["columns"])
    if not is_checkpoints(drawn["columns"]):
        axes.tick_params(axis="x", labelrotation=90)
    for boundary, line in ((drawn["rows"], axes.axhline), (drawn["columns"], axes.axvline)):
        for start, _ in spans(boundary)[1:]:
            line(start - 0.5, color="white", linewidth=1)


def name_ticks(axis: Axis, names: Sequence[Any]) -> None:
    """A checkpoint's name at each row, or a cell's tap; of many cells only their levels, each in the middle."""
    if is_checkpoints(names):
        axis.set_ticks(range(len(names)), list(map(str, names)))
    elif len(names) <= NAMED:
        axis.set_ticks(range(len(names)), [f"{tap}, σ {level}" if level != "clean" else tap for level, tap in names])
        axis.set_tick_params(labelsize=6)
    else:
        axis.set_ticks(
            *zip(*[(start + (size - 1) / 2, f"σ {names[start][0]}") for start, size in spans(names)], strict=True)
        )


def is_checkpoints(names: Sequence[Any]) -> bool:
    """Whether names are those of checkpoints, and not of cells."""
    return isinstance(names[0], int)


def spans(names: Sequence[Any]) -> list[tuple[int, int]]:
    """First index and number of the cells of each level; one span of checkpoints."""
    if is_checkpoints(names):
        return [(0, len(names))]
    sizes = [len(list(cells)) for _, cells in groupby(names, key=lambda cell: cell[0])]
    return list(zip(np.cumsum([0, *sizes[:-1]]).tolist(), sizes, strict=True))
