"""One pass over images through one or several extractors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffprobe.data.imagesets import ImageSet, batches
from diffprobe.evaluation.generation.autosave import SavedStatistics
from diffprobe.evaluation.generation.statistics import Statistics

BATCH = 64


def update(
    statistics: Sequence[Statistics], start: int, images: Tensor, device: torch.device, batch: int = BATCH
) -> None:
    """Add images start, start + 1, ..., uint8 (B, H, W, C), to statistics by several extractors, `batch` in a pass."""
    for part in images.split(batch):
        on_device = part.to(device)  # once for all extractors
        for one in statistics:
            one.update(start, one.extractor.apply(on_device))
        start += len(part)


def collect(
    statistics: Sequence[Statistics],
    images: ImageSet,
    device: torch.device,
    *,
    batch: int = BATCH,
    start: int = 0,
    stop: int | None = None,
    report: Callable[[int], object] = lambda done: None,
    saved: SavedStatistics | None = None,
) -> None:
    """Fill empty statistics with images start .. stop, each read once; `batch` changes no figure.

    `report` is called with the number of finished images; a pass that was killed goes on from what it has `saved`.
    """
    row = start + (saved.restore(statistics) if saved else 0)
    # Batches are cut from `row`, so that a resumed pass may cut others: no figure depends on it.
    for part in batches(images, batch, row, stop):
        update(statistics, row, torch.from_numpy(part), device)
        row += len(part)
        report(row - start)
        if saved:
            saved.offer_statistics(statistics)
