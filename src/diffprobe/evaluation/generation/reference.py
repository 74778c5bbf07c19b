"""Statistics of the images that samples are compared with: computed once and named by content, or made elsewhere.

An .npz with mu (D,) and sigma (D, D), as pytorch-fid and EDM write and read them; mu_s and sigma_s of sFID's map, as in
ADM's; and in ours n, features (of the subset, float32 (n, D)), and `about`, JSON.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprobe.config.names import FIGURES
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.data.npy import npz_keys
from diffprobe.evaluation.generation.autosave import SavedStatistics
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.evaluation.generation.statistics_file import Gaussian, parse_statistics
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical, digest, sha256
from diffprobe.runtime.results import refuse_changed

CODE = ("src/diffprobe/evaluation/", "src/diffprobe/networks/")  # the code that statistics depend on


@dataclass(frozen=True)
class Reference:
    origin: str  # its name in receipts and errors
    mu: np.ndarray  # float64 (D,)
    sigma: np.ndarray  # float64 (D, D)
    n: int | None = None  # images behind it, where it is recorded
    spatial: Gaussian | None = None  # of sFID's map
    features: Tensor | None = None  # float32 (n, D), of its subset
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, statistics: Statistics, origin: str, about: dict[str, Any]) -> "Reference":
        """From the statistics of a pass over its images."""
        moments, spatial = statistics.moments, statistics.spatial
        return cls(
            origin,
            moments.mu,
            moments.sigma,
            n=statistics.n,
            spatial=(spatial.mu, spatial.sigma) if spatial else None,
            features=statistics.subset.features,
            about=about | {"subset": statistics.plan.about},
        )


def file_name(images: Mapping[str, Any], most: int, extractor: FeatureExtractor) -> str:
    """The file's name by content: the images' identity, the size of the subset, the features, and the code."""
    code = {file: version for file, version in code_version().items() if file.startswith(CODE)}
    return f"{extractor.name}-{digest([code, dict(images), most, extractor.identity])}.npz"


def write(path: Path, reference: Reference) -> None:
    """Write a reference, whole or not at all; `mu` and `sigma` are what pytorch-fid reads."""
    arrays: dict[str, Any] = {"mu": reference.mu, "sigma": reference.sigma}
    if reference.n is not None:
        arrays["n"] = reference.n
    if reference.spatial is not None:
        arrays["mu_s"], arrays["sigma_s"] = reference.spatial
    if reference.features is not None:
        arrays["features"] = reference.features.numpy()
    with atomic(path) as partial:
        np.savez(partial, **arrays, about=canonical({"origin": reference.origin, **reference.about}))


def read(path: Path, extractor: FeatureExtractor) -> Reference:
    """A reference for this extractor, in our own form or another's.

    Raises UserError where the file cannot be read, is not what its receipt says, or is of other features.
    """
    refuse_changed(path)
    parsed = parse_statistics(path, extractor.dim, extractor.spatial, extractor.name)
    refuse_other_weights(path, parsed.extractor, extractor)
    about = {"statistics": "brought from elsewhere"} if parsed.about is None else dict(parsed.about)
    return Reference(
        parsed.origin or path.name,
        *parsed.gaussian,
        n=parsed.n,
        spatial=parsed.spatial,
        features=None if parsed.features is None else torch.from_numpy(parsed.features),
        about=about,
    )


def refuse_other_weights(path: Path, recorded: Mapping[str, Any], extractor: FeatureExtractor) -> None:
    """Raises UserError for a file that records another extractor; a file without a record is trusted."""
    for key, value in extractor.identity.items() if recorded else ():
        if recorded.get(key) != value:
            raise UserError(
                f"{path}: {key} of its extractor is {recorded.get(key)}, here it is {value}; "
                "provide statistics of the same features"
            )


def compute_reference(
    images: ImageSet,
    extractor: FeatureExtractor,
    most: int,
    device: torch.device,
    batch: int,
    report: Callable[[int], object] = lambda done: None,
    origin: str | None = None,
    saved: SavedStatistics | None = None,
) -> Reference:
    """The statistics of images for every figure; `most` of them are in the subset."""
    statistics = Statistics(SubsetPlan(images.n, most), extractor, FIGURES)
    collect([statistics], images, device, batch=batch, report=report, saved=saved)
    about = {"source": images.identity, "extractor": extractor.identity}
    return Reference.of(statistics, origin or images.origin, about)


def import_reference(path: Path, extractor: FeatureExtractor, most: int, device: torch.device, batch: int) -> Reference:
    """Statistics that were computed elsewhere. Raises UserError where they do not fit the extractor.

    ADM's files hold some of the images too (`arr_0`): their features serve the figures that compare images one by one.
    """
    reference = read(path, extractor)
    about = reference.about | {"file": path.name, "sha256": sha256(path)}
    # Moments come from the file, which has more images than it holds; only the subset's features are computed.
    if reference.features is None and "arr_0" in npz_keys(path):
        images = compute_reference(open_images(path), extractor, most, device, batch)
        return replace(reference, features=images.features, about=about | {"subset": images.about["subset"]})
    return replace(reference, about=about)
