"""Images side by side, pixel for pixel. Loads no matplotlib, so that jobs that draw samples can show them at once."""

from pathlib import Path

import numpy as np
from PIL import Image

from diffprobe.data.samples import SampleStore
from diffprobe.runtime.files import atomic

GAP = 2  # screen pixels between images
COLUMNS, ROWS, WIDTH = 8, 4, 64  # of a preview: images, and the least screen pixels of each


def grid(images: np.ndarray, columns: int, rows: int, scale: int) -> Image.Image:
    """The first columns x rows of images uint8 (N, H, W, C), row by row, each pixel `scale` pixels wide."""
    shown = images[: columns * rows]
    used = -(-len(shown) // columns)
    cells = np.full((used * columns, *images.shape[1:]), 255, np.uint8)  # (rows * columns, H, W, C); unused ones white
    cells[: len(shown)] = shown
    canvas = tile(cells.reshape(used, columns, *images.shape[1:]), scale)
    return Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas)


def pairs(originals: np.ndarray, others: np.ndarray, columns: int, scale: int) -> Image.Image:
    """Rows of originals uint8 (N, H, W, C), each above the row of their reconstructions."""
    n = len(originals)
    rows = [part[start : start + columns] for start in range(0, n, columns) for part in (originals, others)]
    blank = np.full((columns, *originals.shape[1:]), 255, np.uint8)  # fills a last row that is shorter
    return grid(np.concatenate([np.concatenate([row, blank[len(row) :]]) for row in rows]), columns, len(rows), scale)


def tile(cells: np.ndarray, scale: int) -> np.ndarray:
    """Images (rows, columns, H, W, C) enlarged `scale` times and set side by side with white gaps: (Y, X, C)."""
    rows, columns, H, W, C = cells.shape
    high, wide = H * scale + GAP, W * scale + GAP
    canvas = np.full((rows * high - GAP, columns * wide - GAP, C), 255, np.uint8)
    large = cells.repeat(scale, axis=2).repeat(scale, axis=3)  # (rows, columns, H * scale, W * scale, C)
    for r in range(rows):
        for c in range(columns):
            canvas[r * high : r * high + H * scale, c * wide : c * wide + W * scale] = large[r, c]
    return canvas


def write_preview(store: SampleStore) -> Path:
    """The first images of a store as a picture beside it, to look at while the rest of a run goes on."""
    path = store.path.with_suffix(".preview.png")
    shown = store.read(0, min(store.shape[0], COLUMNS * ROWS))  # uint8 (n, H, W, C)
    with atomic(path) as partial:
        grid(shown, COLUMNS, ROWS, -(-WIDTH // shown.shape[2])).save(partial)
    return path
