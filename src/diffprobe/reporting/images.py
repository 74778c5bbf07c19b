"""Pictures made of images, pixel for pixel, with words: denoising strips, samples beside their nearest images,
decodings of codes.
"""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from diffprobe.reporting.mosaics import GAP, tile

COLUMNS = 12  # a strip shows at most so many steps
MARGIN = 0.1  # inches around a strip
HEAD = 0.32  # inches above a strip, for the noise levels
BETWEEN = 0.22  # inches between generated images and their neighbours
FONT = 8.5  # points


def strip(
    images: np.ndarray, sigmas: np.ndarray, scale: int, dpi: int = 110, noisy: np.ndarray | None = None
) -> Figure:
    """One row per sample: the estimates of the clean image at each step, under the step's noise level; with `noisy`
    images a second row of these.

    images and noisy uint8 (n, steps, H, W, C), sigmas (steps,); at most COLUMNS steps, evenly spread, are shown.
    """
    steps = spread(len(sigmas), COLUMNS)
    kinds = [images] if noisy is None else [images, noisy]
    rows = np.stack([kind[:, steps] for kind in kinds], axis=1).reshape(-1, len(steps), *images.shape[2:])
    canvas = tile(rows, scale)  # (Y, X, C)
    height, width = canvas.shape[:2]
    left, bottom = round((MARGIN + 0.3) * dpi), round(MARGIN * dpi)
    size = left + width + bottom, bottom + height + round(HEAD * dpi)
    figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
    # figimage places pixels one to one; an axis would resample them.
    figure.figimage(np.broadcast_to(canvas, (height, width, 3)), left, bottom, origin="upper")
    cell = images.shape[3] * scale
    head = {"y": (bottom + height + 0.07 * dpi) / size[1], "fontsize": FONT, "va": "bottom"}
    figure.text(x=(left - 0.06 * dpi) / size[0], s="σ =", ha="right", **head)
    for column, step in enumerate(steps):
        centre = left + column * (cell + GAP) + cell / 2
        figure.text(x=centre / size[0], s=short(sigmas[step]), ha="center", **head)
    if noisy is not None:
        for row in range(len(rows)):
            middle = bottom + height + GAP / 2 - (row + 0.5) * (height + GAP) / len(rows)
            name = r"$x_t$" if row % 2 else r"$\hat{x}_0$"
            x = (left - 0.06 * dpi) / size[0]
            figure.text(x, middle / size[1], name, ha="right", va="center", fontsize=FONT, parse_math=True)
    return figure


def neighbours(
    queries: np.ndarray, nearest: np.ndarray, ratios: np.ndarray, scale: int, dpi: int = 110, kind: str = "generated"
) -> Figure:
    """One row per image: the image, its nearest training images, and the ratio of the first two distances.

    queries uint8 (n, H, W, C), nearest uint8 (n, k, H, W, C), ratios (n,) as `evaluation.generation.nearest` computes
    them; `kind` names the queries in the heading.
    """
    parts = tile(queries[:, None], scale), tile(nearest, scale)  # (Y, X, C) each
    heads = (kind, "nearest training images, nearest first", "ratio")
    # A column is as wide as its images or its heading, whichever is wider.
    wide = [max(part.shape[1], text_width(head, dpi)) for part, head in zip(parts, heads, strict=False)]
    bottom, height = round(MARGIN * dpi), parts[0].shape[0]
    starts = np.cumsum([bottom, *(width + round(BETWEEN * dpi) for width in wide)])  # of the three columns
    size = int(starts[2]) + text_width(heads[2], dpi) + bottom, bottom + height + round(HEAD * dpi)
    figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
    for start, part in zip(starts, parts, strict=False):
        figure.figimage(np.broadcast_to(part, (*part.shape[:2], 3)), start, bottom, origin="upper")
    for start, head in zip(starts, heads, strict=True):
        figure.text(start / size[0], (bottom + height + 0.07 * dpi) / size[1], head, fontsize=FONT, va="bottom")
    for row, ratio in enumerate(ratios):
        middle = bottom + height + GAP / 2 - (row + 0.5) * (height + GAP) / len(ratios)
        figure.text(starts[2] / size[0], middle / size[1], f"{ratio:.2f}", fontsize=FONT, va="center")
    return figure


def decodings(arrays: Mapping[str, np.ndarray], scale: int, dpi: int = 110) -> Figure:
    """Blocks of rows under their headings: images beside decodings of their codes; pairs of images around what is
    between them; pairs beside decodings of the first with one part of the second, where codes have parts.

    `images` uint8 (n, H, W, C), `variations`, `between` and perhaps `exchanged` uint8 (rows, columns, H, W, C).
    """
    images = arrays["images"]
    pairs = images[: len(images) // 2 * 2].reshape(-1, 2, *images.shape[1:])
    first, second = pairs[:, :1], pairs[:, 1:]
    blocks = {
        "image, and decodings of its code": [images[:, None], arrays["variations"]],
        "two images, and decodings between their codes": [first, arrays["between"], second],
    }
    if "exchanged" in arrays:
        blocks["two images, and the first with part 1, 2, ... of the second"] = [pairs, arrays["exchanged"]]
    canvases = [tile(np.concatenate(cells, axis=1), scale) for cells in blocks.values()]  # (Y, X, C) each
    edge, head = round(MARGIN * dpi), round(HEAD * dpi)
    wide = max(*(canvas.shape[1] for canvas in canvases), *(text_width(text, dpi) for text in blocks))
    size = wide + 2 * edge, edge + sum(canvas.shape[0] + head for canvas in canvases)
    figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
    top = size[1]
    for text, canvas in zip(blocks, canvases, strict=True):
        top -= head + canvas.shape[0]
        figure.figimage(np.broadcast_to(canvas, (*canvas.shape[:2], 3)), edge, top, origin="upper")
        place = (top + canvas.shape[0] + 0.07 * dpi) / size[1]
        figure.text(edge / size[0], place, text, fontsize=FONT, va="bottom")
    return figure


def text_width(text: str, dpi: int) -> int:
    """The width of a line of text in pixels, computed from the font's outlines before anything is drawn."""
    return math.ceil(TextPath((0, 0), text, size=FONT).get_extents().width * dpi / 72)


def spread(n: int, most: int) -> list[int]:
    """At most `most` of the indices 0..n-1, evenly spread, including the first and the last."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def short(sigma: float) -> str:
    """A noise level as text: two significant digits, no exponent."""
    return f"{sigma:.0f}" if sigma >= 10 else np.format_float_positional(float(f"{sigma:.2g}"), trim="-")
