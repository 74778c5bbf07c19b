"""Statistics of the images that samples are compared with: computed once, kept by content, or brought from elsewhere.

An .npz with mu (D,) and sigma (D, D), as pytorch-fid and EDM write and read them; of sFID's map mu_s and sigma_s, as
in ADM's; of ours besides n, features (of the subset, float32 (n, D)), and `about`, JSON.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical, digest
from diffprobe.runtime.receipts import code_version

COUNTS = ("src/diffprobe/evaluation/", "src/diffprobe/networks/")  # code by which statistics come out as they do
Gaussian = tuple[np.ndarray, np.ndarray]  # mean (D,), covariance (D, D)


@dataclass(frozen=True)
class Reference:
    origin: str  # what it is called
    mu: np.ndarray  # float64 (D,)
    sigma: np.ndarray  # float64 (D, D)
    n: int | None = None  # images behind it; None where nobody tells
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
            spatial=spatial and (spatial.mu, spatial.sigma),
            features=statistics.subset.features,
            about=about | {"subset": statistics.plan.about},
        )


def name(images: Mapping[str, Any], most: int, extractor: Extractor) -> str:
    """The file's name by content: what the images are, how many in the subset, which features, by which code."""
    code = {file: version for file, version in code_version().items() if file.startswith(COUNTS)}
    return f"{extractor.name}-{digest([code, dict(images), most, extractor.identity])}.npz"


def write(path: Path, reference: Reference) -> None:
    """Keep a reference, whole or not at all; `mu` and `sigma` are what pytorch-fid reads."""
    held: dict[str, Any] = {"mu": reference.mu, "sigma": reference.sigma}
    if reference.n is not None:
        held["n"] = reference.n
    if reference.spatial is not None:
        held["mu_s"], held["sigma_s"] = reference.spatial
    if reference.features is not None:
        held["features"] = reference.features.numpy()
    with atomic(path) as partial:
        np.savez(partial, **held, about=canonical({"origin": reference.origin, **reference.about}))


def read(path: Path, extractor: Extractor) -> Reference:
    """A reference for this extractor, of our own form or another's.

    Raises UserError where the file cannot be read, or is of other features.
    """
    try:
        with np.load(path) as file:
            held = {key: file[key] for key in file.files if key != "arr_0"}
    except (OSError, ValueError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz of statistics ({error}); make or fetch it again") from None
    spatial = None
    if "mu_s" in held and extractor.spatial:
        spatial = gaussian(path, held, "mu_s", "sigma_s", extractor.spatial, f"the map of {extractor.name}")
    about = json.loads(str(held["about"])) if "about" in held else {"statistics": "brought from elsewhere"}
    refuse_other_weights(path, about, extractor)
    return Reference(
        about.pop("origin", path.name),
        *gaussian(path, held, "mu", "sigma", extractor.dim, extractor.name),
        n=int(held["n"]) if "n" in held else None,
        spatial=spatial,
        features=torch.from_numpy(held["features"]) if "features" in held else None,
        about=about,
    )


def gaussian(path: Path, held: Mapping[str, np.ndarray], mu: str, sigma: str, dim: int, what: str) -> Gaussian:
    """Mean and covariance, float64, of `dim` features."""
    missing = [key for key in (mu, sigma) if key not in held]
    if missing:
        keys = ", ".join(sorted(held)) or "nothing"
        raise UserError(f"{path}: holds no {missing[0]} (it has {keys}); statistics are an .npz with mu and sigma")
    found = held[mu].astype(np.float64), held[sigma].astype(np.float64)
    if found[0].shape != (dim,) or found[1].shape != (dim, dim):
        shapes = f"{mu} {found[0].shape} and {sigma} {found[1].shape}"
        raise UserError(f"{path}: {shapes}, but {what} has {dim} features; bring statistics of the same features")
    if not all(np.isfinite(part).all() for part in found):
        raise UserError(f"{path}: {mu} or {sigma} holds values that are not finite; make or fetch it again")
    if (found[1].diagonal() < 0).any() or not np.allclose(found[1], found[1].T, rtol=1e-3, atol=1e-6):
        raise UserError(f"{path}: {sigma} is no covariance (negative variances, or not symmetric); make it again")
    return found


def refuse_other_weights(path: Path, about: dict[str, Any], extractor: Extractor) -> None:
    """Our own files know what they are of; others are taken at their word."""
    known = about.get("extractor", extractor.identity)
    if known != extractor.identity:
        key = next(key for key, value in extractor.identity.items() if known.get(key) != value)
        raise UserError(
            f"{path}: {key} of its extractor is {known.get(key)}, here it is {extractor.identity[key]}; "
            "bring statistics of the same features"
        )
