"""Pictures of masks: images, the truth, and what evaluators predict, in a colour for each class."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from diffprobe.reporting.images import FONT, HEAD, MARGIN, text_width
from diffprobe.reporting.mosaics import tile

GOLDEN = 0.618034  # steps of hue by the golden ratio stay apart, however many classes there are
SWATCH = 0.13  # inches
NAMED = 24  # classes in the legend at most
PREDICTED = "predicted_"  # before the names of arrays


def masks(evaluators: Mapping[str, Mapping[str, np.ndarray]], scale: int, dpi: int = 110) -> Figure:
    """A row of images, one of their masks, and one for each prediction of each evaluator, with a legend below.

    Of each evaluator `images` uint8 (n, H, W, C), `truth` (n, H, W), -1 where unknown, `predicted_` (n, H, W) and
    perhaps `predicted_pixels`, and the names of the `classes`.
    """
    first = next(iter(evaluators.values()))
    names = first["classes"].tolist()
    colours = palette(len(names))
    images = first["images"]
    rows = {"images": np.broadcast_to(images, (*images.shape[:3], 3)), "masks": colours[first["truth"]]}
    for evaluator, arrays in evaluators.items():
        predicted = {key.removeprefix(PREDICTED): value for key, value in arrays.items() if key.startswith(PREDICTED)}
        rows |= {f"{evaluator} {seen}".strip(): colours[mask] for seen, mask in predicted.items()}
    canvas = tile(np.stack(list(rows.values())), scale)  # (Y, X, 3)
    edge = round(MARGIN * dpi)
    left = 2 * edge + max(text_width(name, dpi) for name in rows)
    lines = legend(names, max(canvas.shape[1], 3 * dpi), dpi)
    height = round(0.75 * HEAD * dpi)
    size = left + max(canvas.shape[1], 3 * dpi) + edge, canvas.shape[0] + 2 * edge + height * len(lines)
    figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
    bottom = edge + height * len(lines)
    figure.figimage(canvas, left, bottom, origin="upper")
    for row, name in enumerate(rows):
        middle = bottom + canvas.shape[0] * (1 - (row + 0.5) / len(rows))
        figure.text((left - edge) / size[0], middle / size[1], name, ha="right", va="center", fontsize=FONT)
    swatch = round(SWATCH * dpi)
    for number, line in enumerate(lines):
        below = edge + height * (len(lines) - 1 - number)
        for start, value, text in line:
            figure.figimage(np.tile(colours[value], (swatch, swatch, 1)), left + start, below, origin="upper")
            x, y = (left + start + 1.5 * swatch) / size[0], (below + swatch / 2) / size[1]
            figure.text(x, y, text, va="center", fontsize=FONT)
    return figure


def legend(names: list[str], width: int, dpi: int) -> list[list[tuple[int, int, str]]]:
    """Lines of the legend, at most `width` pixels wide: the place, value and name of each class."""
    lines: list[list[tuple[int, int, str]]] = [[]]
    start = 0
    for value, name in enumerate(names[:NAMED]):
        wide = round(3.5 * SWATCH * dpi) + text_width(name, dpi)
        if start and start + wide > width:
            lines.append([])
            start = 0
        lines[-1].append((start, value, name))
        start += wide
    return lines


def palette(classes: int) -> np.ndarray:
    """Colours uint8 (K + 1, 3): class 0, mostly the background, is dark grey; the last, for -1, is white."""
    hues = np.arange(classes - 1) * GOLDEN % 1
    shades = np.stack([hues, np.full_like(hues, 0.65), 0.95 - 0.3 * (np.arange(classes - 1) % 2)], axis=1)
    colours = np.concatenate([[[0.2, 0.2, 0.2]], hsv_to_rgb(shades), [[1, 1, 1]]])
    return np.round(255 * colours).astype(np.uint8)
