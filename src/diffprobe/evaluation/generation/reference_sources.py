"""Where a reference comes from: images that are gone through here, or statistics that were made elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from diffprobe.config.names import FIGURES
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.reference import Reference, read
from diffprobe.evaluation.generation.statistics import Plan
from diffprobe.runtime.files import sha256


def computed(
    images: ImageSet,
    extractor: Extractor,
    most: int,
    device: torch.device,
    batch: int,
    report: Callable[[int], object] = lambda done: None,
    origin: str | None = None,
    saved: Autosave | None = None,
) -> Reference:
    """All that any figure may ask of these images; `most` are in the subset."""
    plan, options = Plan(images.n, most), {"batch": batch, "report": report, "saved": saved}
    statistics = collect({"it": extractor}, images, plan, FIGURES, device, **options)["it"]
    about = {"source": images.identity, "extractor": extractor.identity}
    return Reference.of(statistics, origin or images.origin, about)


def brought(path: Path, extractor: Extractor, most: int, device: torch.device, batch: int) -> Reference:
    """Statistics that were made elsewhere. Raises UserError where they do not fit the extractor.

    ADM's files hold some of the images too (`arr_0`): their features serve the figures that compare images one by one.
    """
    found = read(path, extractor)
    about = found.about | {"file": path.name, "sha256": sha256(path)}
    if found.features is None and "arr_0" in keys(path):
        images = computed(open_images(path), extractor, most, device, batch)
        return replace(found, features=images.features, about=about | {"subset": images.about["subset"]})
    return replace(found, about=about)


def keys(path: Path) -> list[str]:
    """What an .npz holds; nothing where it is none."""
    try:
        with np.load(path) as file:
            return list(file.files)
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError):
        return []
