"""Pictures made of images, pixel for pixel: the grid of samples and the strip of how they come about."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

GAP = 2  # screen pixels between images
COLUMNS = 12  # steps that a strip shows at most
MARGIN = 0.1  # inches around a strip
HEAD = 0.32  # inches above a strip, for the noise levels


def grid(images: np.ndarray, columns: int, rows: int, scale: int) -> Image.Image:
    """The first columns x rows of images uint8 (N, H, W, C), row by row, each pixel `scale` pixels wide."""
    shown = images[: columns * rows]
    used = -(-len(shown) // columns)
    cells = np.full((used * columns, *images.shape[1:]), 255, np.uint8)  # what is left over stays white
    cells[: len(shown)] = shown
    canvas = tile(cells.reshape(used, columns, *images.shape[1:]), scale)
    return Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas)


def pairs(originals: np.ndarray, others: np.ndarray, columns: int, scale: int) -> Image.Image:
    """Rows of originals uint8 (N, H, W, C), each with a row of what became of them right below."""
    n = len(originals)
    rows = [part[start : start + columns] for start in range(0, n, columns) for part in (originals, others)]
    blank = np.full((columns, *originals.shape[1:]), 255, np.uint8)  # what is left over stays white
    return grid(np.concatenate([np.concatenate([row, blank[len(row) :]]) for row in rows]), columns, len(rows), scale)


def strip(images: np.ndarray, sigmas: np.ndarray, scale: int, dpi: int = 110) -> Figure:
    """Each row one image on its way to the sample, under the noise level of each step.

    images uint8 (n, steps, H, W, C), sigmas (steps,); of many steps, evenly spread ones are shown.
    """
    steps = spread(len(sigmas), COLUMNS)
    canvas = tile(images[:, steps], scale)  # (Y, X, C)
    height, width = canvas.shape[:2]
    left, bottom = round((MARGIN + 0.3) * dpi), round(MARGIN * dpi)
    size = np.array([left + width + bottom, bottom + height + round(HEAD * dpi)])
    figure = Figure(figsize=size / dpi, dpi=dpi)
    figure.figimage(np.broadcast_to(canvas, (height, width, 3)), left, bottom, origin="upper")
    cell = images.shape[3] * scale
    head = {"y": (bottom + height + 0.07 * dpi) / size[1], "fontsize": 8.5, "va": "bottom"}
    figure.text(x=(left - 0.06 * dpi) / size[0], s="σ =", ha="right", **head)
    for column, step in enumerate(steps):
        centre = left + column * (cell + GAP) + cell / 2
        figure.text(x=centre / size[0], s=short(sigmas[step]), ha="center", **head)
    return figure


def tile(cells: np.ndarray, scale: int) -> np.ndarray:
    """Images (rows, columns, H, W, C) side by side, each `scale` times as large, in white gaps: (Y, X, C)."""
    rows, columns, H, W, C = cells.shape
    high, wide = H * scale + GAP, W * scale + GAP
    canvas = np.full((rows * high - GAP, columns * wide - GAP, C), 255, np.uint8)
    large = cells.repeat(scale, axis=2).repeat(scale, axis=3)
    for r in range(rows):
        for c in range(columns):
            canvas[r * high : r * high + H * scale, c * wide : c * wide + W * scale] = large[r, c]
    return canvas


def spread(n: int, most: int) -> list[int]:
    """At most `most` of 0..n-1, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def short(sigma: float) -> str:
    """A noise level for people: two significant digits, no exponent."""
    return f"{sigma:.0f}" if sigma >= 10 else np.format_float_positional(float(f"{sigma:.2g}"), trim="-")
