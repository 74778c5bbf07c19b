"""Pictures of features: principal components at every position as colours, and a plane of images by t-SNE."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from diffprobe.config.names import level_name
from diffprobe.reporting.plots import INK, LEGEND, class_name, heading

Arrays = Mapping[str, np.ndarray]  # as the script `pictures` writes them
CELL = 0.62  # inches of an image in the maps
CLIPPED = 1  # per cent of a component's values at either end that have the first or last colour
# Okabe and Ito (2008) and three of Tol's muted colours, with shapes, so that a class is known without its colour.
CLASSES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#882255", "#999933", "#332288")
SHAPES = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")
NAMED = 20  # classes with a colour of their own; the others are grey


def scaled(values: np.ndarray) -> np.ndarray:
    """Components (..., K) as colours in [0, 1], each between its own CLIPPED and 100 - CLIPPED percentiles; a constant
    one is 0.5.
    """
    axes = tuple(range(values.ndim - 1))
    low, high = np.percentile(values, [CLIPPED, 100 - CLIPPED], axis=axes)  # (K,)
    flat = high <= low
    return np.where(flat, 0.5, np.clip((values - low) / np.where(flat, 1, high - low), 0, 1))


def maps(arrays: Arrays, title: str, dpi: int = 110) -> Figure:
    """Columns of images. From above: the image, what the model saw, the chosen layer's first component on its own, and
    the first three components of each layer as red, green and blue, the chosen one's with an orange name.
    """
    pixels, chosen = arrays["images"], str(arrays["chosen"])
    rows: list[tuple[str, np.ndarray]] = [("image", pixels)]
    if "noisy" in arrays:
        rows.append((f"with noise\nσ {arrays['level']}", arrays["noisy"]))
    share = 100 * arrays[f"shares/{chosen}"]
    rows.append((f"{chosen}, PC 1\n{share[0]:.0f} %", scaled(arrays[f"map/{chosen}"])[..., 0]))
    for tap in arrays["taps"]:
        share = 100 * arrays[f"shares/{tap}"]
        rows.append((f"{tap}\n{' + '.join(f'{each:.0f}' for each in share)} %", scaled(arrays[f"map/{tap}"])))
    left, top = 1.25, 0.7
    size = left + CELL * len(pixels) + 0.1, top + CELL * len(rows) + 0.1
    figure = Figure(figsize=size, dpi=dpi)
    edges = {"left": left / size[0], "right": 1 - 0.1 / size[0], "top": 1 - top / size[1], "bottom": 0.1 / size[1]}
    panels = figure.subplots(
        len(rows), len(pixels), squeeze=False, gridspec_kw={**edges, "wspace": 0.05, "hspace": 0.05}
    )
    for line, (name, pictures) in zip(panels, rows, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            draw(axes, picture)
        marked = name.startswith((f"{chosen}\n", f"{chosen},"))
        line[0].set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize=8, color="#B34700" if marked else INK,
            weight="bold" if marked else "normal",
        )  # fmt: skip
    for axes, label in zip(panels[0], arrays["labels"], strict=True):
        axes.set_title(class_name(str(arrays["classes"][label]))[:12], fontsize=8, color=INK, pad=3)
    figure.text(0.1 / size[0], 1 - 0.08 / size[1], title, fontsize=10, color=INK, va="top")
    return figure


def draw(axes: Axes, picture: np.ndarray) -> None:
    """A picture (h, w, 1 or 3) of bytes or of colours in [0, 1], or (h, w) numbers in [0, 1]."""
    grey = picture.ndim == 3 and picture.shape[-1] == 1
    colours: dict[str, Any] = (
        {"cmap": "gray", "vmin": 0, "vmax": 255} if grey else {"cmap": "cividis", "vmin": 0, "vmax": 1}
    )
    axes.imshow(picture[..., 0] if grey else picture, interpolation="nearest", aspect="equal", **colours)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def map_table(arrays: Arrays) -> pd.DataFrame:
    """A line for each position of each image in each layer; `image` is the image's row in the image store."""
    tables = []
    for tap in arrays["taps"]:
        values = arrays[f"map/{tap}"]  # (n, h, w, 3)
        n, row, column = (index.ravel() for index in np.indices(values.shape[:3]))
        names = arrays["classes"][arrays["labels"]][n]
        place = {"tap": str(tap), "image": arrays["rows"][n], "class": names, "row": row, "column": column}
        tables.append(pd.DataFrame(place | {f"pc{k + 1}": values[..., k].ravel() for k in range(3)}))
    return pd.concat(tables)


def plane(arrays: Arrays, title: str, dpi: int = 110) -> Figure:
    """Images as points at the places that t-SNE gave them, a colour and a shape for each class."""
    points, labels = arrays["plane"], arrays["plane_labels"]
    figure = Figure(figsize=(6.6, 5), dpi=dpi, layout="constrained")
    axes = figure.subplots()
    present, counts = np.unique(labels, return_counts=True)
    named = np.sort(present[np.argsort(-counts, kind="stable")[:NAMED]])
    others = points[~np.isin(labels, named)]
    axes.plot(*others.T, linestyle="", marker=".", markersize=3, color="#BBBBBB", zorder=1)
    # Beyond the pairs of a colour and a shape that there are, those of the classes that are named.
    distinct = len(arrays["classes"]) <= len(CLASSES) * len(SHAPES)
    look = {label: label if distinct else rank for rank, label in enumerate(named)}
    several = np.arange(len(CLASSES) * len(SHAPES))
    colours = np.array(CLASSES)[several % len(CLASSES)]
    shapes = np.array(SHAPES)[(several + several // len(CLASSES)) % len(SHAPES)]  # another with a colour's next class
    lines: list[Line2D] = []
    medians = {label: np.median(points[labels == label], 0) for label in named}
    for label in named:
        name, own = class_name(str(arrays["classes"][label])), points[labels == label]
        style: dict[str, Any] = {"linestyle": "", "marker": shapes[look[label]], "color": colours[look[label]]}
        axes.plot(*own.T, markersize=4, markeredgewidth=0, alpha=0.8, **style)
        lines.append(Line2D([], [], markersize=6, label=name, **style))
        if among_its_own(own, medians, label):
            text = axes.annotate(name, medians[label], ha="center", va="center", fontsize=10, weight="bold", zorder=3)
            text.set(color=colours[look[label]], path_effects=[withStroke(linewidth=3, foreground="white")])
    if len(others):
        lines.append(Line2D([], [], linestyle="", marker=".", color="#BBBBBB", label=f"{len(present) - NAMED} others"))
    axes.set_aspect("equal", "datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#DDDDDD")
    axes.set(xlabel="t-SNE, first coordinate (no unit)", ylabel="second coordinate (no unit)")
    axes.xaxis.label.set(fontsize=9, color=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    heading(axes, title)
    figure.legend(handles=lines, loc="outside right upper", **LEGEND)
    return figure


def among_its_own(points: np.ndarray, medians: Mapping[int, np.ndarray], label: int) -> bool:
    """Whether at least half of a class's points (n, 2) are nearer to its own median than to any other class's: only
    then does a name at the median say where the class is.
    """
    distances = {other: np.linalg.norm(points - median, axis=1) for other, median in medians.items()}
    nearest = np.min(list(distances.values()), axis=0)
    return bool((distances[label] == nearest).mean() >= 0.5)


def plane_table(arrays: Arrays) -> pd.DataFrame:
    """A line for each image: its place in `test`, its class and its coordinates."""
    names = arrays["classes"][arrays["plane_labels"]]
    x, y = arrays["plane"].T
    return pd.DataFrame({"image": arrays["plane_places"], "class": names, "x": x, "y": y})


def place(arrays: Arrays, experiment: str) -> str:
    """Where the features of a picture are from, for its title."""
    level = "without noise" if str(arrays["level"]) == level_name(0) else f"at σ {arrays['level']}"
    return f"{experiment} at {arrays['kimg']} thousand images, {level}"
