"""One pass over images through one or several extractors."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from diffprobe.data.imagesets import ImageSet, batches
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan

BATCH = 64


def new_statistics(
    extractors: Mapping[str, FeatureExtractor], plan: SubsetPlan, figures: Collection[str]
) -> dict[str, Statistics]:
    """Empty statistics for each extractor, by its name in the config."""
    return {name: Statistics(plan, extractor, figures) for name, extractor in extractors.items()}


def update(
    statistics: Mapping[str, Statistics],
    extractors: Mapping[str, FeatureExtractor],
    start: int,
    images: Tensor,
    device: torch.device,
    batch: int = BATCH,
) -> None:
    """Add images start, start + 1, ..., uint8 (B, H, W, C), to the statistics of each extractor, `batch` in a pass."""
    for part in images.split(batch):
        on_device = part.to(device)
        for name, extractor in extractors.items():
            statistics[name].update(start, extractor.apply(on_device))
        start += len(part)


def collect(
    extractors: Mapping[str, FeatureExtractor],
    images: ImageSet,
    plan: SubsetPlan,
    figures: Collection[str],
    device: torch.device,
    *,
    batch: int = BATCH,
    start: int = 0,
    stop: int | None = None,
    report: Callable[[int], object] = lambda done: None,
    saved: Autosave | None = None,
) -> dict[str, Statistics]:
    """Statistics of images start .. stop, each read once. `plan` is of all images; `batch` changes no figure.

    `report` is called with the number of finished images; a pass that was killed goes on from what it has `saved`.
    """
    statistics = new_statistics(extractors, plan, figures)
    row = start + (saved.restore(statistics) if saved else 0)
    # Batches are cut from `row`, so that a resumed pass may cut others: no figure depends on it.
    for part in batches(images, batch, row, stop):
        update(statistics, extractors, row, torch.from_numpy(part), device)
        row += len(part)
        report(row - start)
        if saved:
            saved.offer(statistics)
    return statistics
