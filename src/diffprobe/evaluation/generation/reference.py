"""Statistics of the images that samples are compared with: computed once and named by content, or made elsewhere.

An .npz with mu (D,) and sigma (D, D), as pytorch-fid and EDM write and read them; mu_s and sigma_s of sFID's map, as in
ADM's; and in ours n, features (of the subset, float32 (n, D)), and `about`, JSON.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprobe.config.names import FIGURES
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical, digest, sha256
from diffprobe.runtime.receipts import code_version

CODE = ("src/diffprobe/evaluation/", "src/diffprobe/networks/")  # the code that statistics depend on
Gaussian = tuple[np.ndarray, np.ndarray]  # mean (D,), covariance (D, D)


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

    Raises UserError where the file cannot be read, or is of other features.
    """
    try:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files if key != "arr_0"}
    except (OSError, ValueError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz of statistics ({error}); make or download it again") from None
    spatial = None
    if "mu_s" in arrays and extractor.spatial:
        spatial = gaussian(path, arrays, "mu_s", "sigma_s", extractor.spatial, f"the map of {extractor.name}")
    about = json.loads(str(arrays["about"])) if "about" in arrays else {"statistics": "brought from elsewhere"}
    refuse_other_weights(path, about, extractor)
    return Reference(
        about.pop("origin", path.name),
        *gaussian(path, arrays, "mu", "sigma", extractor.dim, extractor.name),
        n=int(arrays["n"]) if "n" in arrays else None,
        spatial=spatial,
        features=torch.from_numpy(arrays["features"]) if "features" in arrays else None,
        about=about,
    )


def gaussian(path: Path, arrays: Mapping[str, np.ndarray], mu: str, sigma: str, dim: int, what: str) -> Gaussian:
    """Mean and covariance, float64, of `dim` features. Raises UserError where they are missing or cannot be that."""
    if missing := [key for key in (mu, sigma) if key not in arrays]:
        keys = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"{path}: holds no {missing[0]} (it has {keys}); statistics are an .npz with mu and sigma")
    mean, covariance = arrays[mu].astype(np.float64), arrays[sigma].astype(np.float64)
    if mean.shape != (dim,) or covariance.shape != (dim, dim):
        shapes = f"{mu} {mean.shape} and {sigma} {covariance.shape}"
        raise UserError(f"{path}: {shapes}, but {what} has {dim} features; provide statistics of the same features")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path}: {mu} or {sigma} holds values that are not finite; make or download it again")
    # Symmetric up to what float32 leaves, as some of the published files are.
    if (covariance.diagonal() < 0).any() or not np.allclose(covariance, covariance.T, rtol=1e-3, atol=1e-6):
        raise UserError(f"{path}: {sigma} is not a covariance (negative variances, or not symmetric); make it again")
    return mean, covariance


def refuse_other_weights(path: Path, about: dict[str, Any], extractor: FeatureExtractor) -> None:
    """Raises UserError for a file that records another extractor; a file without a record is trusted."""
    recorded = about.get("extractor", extractor.identity)
    if recorded != extractor.identity:
        key = next(key for key, value in extractor.identity.items() if recorded.get(key) != value)
        raise UserError(
            f"{path}: {key} of its extractor is {recorded.get(key)}, here it is {extractor.identity[key]}; "
            "provide statistics of the same features"
        )


def npz_keys(path: Path) -> list[str]:
    """The names of the arrays in an .npz; none where it cannot be read."""
    try:
        with np.load(path) as file:
            return list(file.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError):
        return []


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
