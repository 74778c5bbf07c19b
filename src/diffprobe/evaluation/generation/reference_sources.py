"""Where a reference comes from: images that are read here, or statistics that were computed elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from diffprobe.config.names import FIGURES
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.reference import Reference, npz_keys, read
from diffprobe.evaluation.generation.statistics import SubsetPlan
from diffprobe.runtime.files import sha256


def compute_reference(
    images: ImageSet,
    extractor: FeatureExtractor,
    most: int,
    device: torch.device,
    batch: int,
    report: Callable[[int], object] = lambda done: None,
    origin: str | None = None,
    saved: Autosave | None = None,
) -> Reference:
    """The statistics of images for every figure; `most` of them are in the subset."""
    one, plan = {"": extractor}, SubsetPlan(images.n, most)
    statistics = collect(one, images, plan, FIGURES, device, batch=batch, report=report, saved=saved)[""]
    about = {"source": images.identity, "extractor": extractor.identity}
    return Reference.of(statistics, origin or images.origin, about)


def import_reference(path: Path, extractor: FeatureExtractor, most: int, device: torch.device, batch: int) -> Reference:
    """Statistics that were computed elsewhere. Raises UserError where they do not fit the extractor.

    ADM's files hold some of the images too (`arr_0`): their features serve the figures that compare images one by one.
    """
    reference = read(path, extractor)
    about = reference.about | {"file": path.name, "sha256": sha256(path)}
    if reference.features is None and "arr_0" in npz_keys(path):
        images = compute_reference(open_images(path), extractor, most, device, batch)
        return replace(reference, features=images.features, about=about | {"subset": images.about["subset"]})
    return replace(reference, about=about)
