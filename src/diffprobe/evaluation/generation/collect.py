"""One pass over images through one or several extractors, by one process or by several."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from diffprobe.data.imagesets import ImageSet, batches
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.statistics import Plan, Statistics

BATCH = 64


def begin(extractors: Mapping[str, Extractor], plan: Plan, figures: Collection[str]) -> dict[str, Statistics]:
    """Empty statistics for each extractor, by its name in the config."""
    return {name: Statistics(plan, extractor, figures) for name, extractor in extractors.items()}


def take(
    found: Mapping[str, Statistics],
    extractors: Mapping[str, Extractor],
    start: int,
    images: Tensor,
    device: torch.device,
    batch: int = BATCH,
) -> None:
    """Take in images start, start + 1, ..., uint8 (B, H, W, C), under every extractor; `batch` of them in a pass."""
    for part in images.split(batch):
        on_device = part.to(device)
        for name, extractor in extractors.items():
            found[name].update(start, extractor.apply(on_device))
        start += len(part)


def collect(
    extractors: Mapping[str, Extractor],
    images: ImageSet,
    plan: Plan,
    figures: Collection[str],
    device: torch.device,
    *,
    batch: int = BATCH,
    start: int = 0,
    stop: int | None = None,
    report: Callable[[int], object] = lambda done: None,
    saved: Autosave | None = None,
) -> dict[str, Statistics]:
    """Statistics of images start..stop, read once. `plan` is of all the images; `batch` changes nothing.

    `report` hears how many images are done; those that a killed pass has `saved` are not gone through again.
    """
    found = begin(extractors, plan, figures)
    row = start + (saved.restore(found) if saved else 0)
    for part in batches(images, batch, row, stop):
        take(found, extractors, row, torch.from_numpy(part), device)
        row += len(part)
        report(row - start)
        if saved:
            saved.offer(found)
    return found
