"""An .npz of statistics, as it comes from anywhere, parsed once: types, shapes and sizes before any array is read."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffprobe.data.archives import check_directory
from diffprobe.data.filenames import display
from diffprobe.data.npy import ArrayHeader, read_header, read_member
from diffprobe.runtime.errors import UserError, access_error, one_line

AGAIN = "make or download it again"
MOST_TEXT = 2**22  # bytes of `about`; ours have a few thousand
MOST_ROWS = 10**6  # of `features`; a file may be compressed, so that its length bounds nothing
Gaussian = tuple[np.ndarray, np.ndarray]  # mean float64 (D,), covariance float64 (D, D)


@dataclass(frozen=True)
class StatisticsFile:
    gaussian: Gaussian
    n: int | None = None  # images behind it
    spatial: Gaussian | None = None  # of sFID's map
    features: np.ndarray | None = None  # float32 (m, D), of its subset
    about: Mapping[str, Any] | None = None
    origin: str | None = None
    extractor: Mapping[str, Any] = field(default_factory=dict)  # the identity of the one that made it


def parse_statistics(path: Path, dim: int, spatial_dim: int, name: str) -> StatisticsFile:
    """The statistics of `dim` features of the extractor `name`; those of its map where `spatial_dim` is not 0.

    Raises UserError where the file cannot be read, or is not that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_directory(path, archive, lambda name: False)  # or a renamed array would merely be missing
            return Parser(path, archive).parse(dim, spatial_dim, name)
    except UserError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds of errors for a damaged archive
        raise access_error(path, error) or UserError(
            f"{display(path)}: not a readable .npz of statistics ({one_line(error)}); {AGAIN}"
        ) from None


class Parser:
    """The arrays of an open .npz, by name."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        self.names = {name.removesuffix(".npy") for name in archive.namelist()}

    def parse(self, dim: int, spatial_dim: int, name: str) -> StatisticsFile:
        spatial = None
        if spatial_dim and "mu_s" in self.names:
            spatial = self.gaussian("mu_s", "sigma_s", spatial_dim, f"the map of {name}")
        gaussian = self.gaussian("mu", "sigma", dim, name)
        n = self.count() if "n" in self.names else None
        features = self.features(dim, n) if "features" in self.names else None
        if "about" not in self.names:
            return StatisticsFile(gaussian, n, spatial, features)
        about = self.about()
        origin, extractor = about.pop("origin", None), about.get("extractor", {})
        if not (origin is None or isinstance(origin, str)) or not isinstance(extractor, dict):
            raise self.refused("about has an origin or extractor of another form")
        return StatisticsFile(gaussian, n, spatial, features, about, origin, extractor)

    def gaussian(self, mu: str, sigma: str, dim: int, what: str) -> Gaussian:
        """Mean and covariance of `dim` features."""
        if missing := [key for key in (mu, sigma) if key not in self.names]:
            keys = ", ".join(sorted(self.names - {"arr_0"})) or "nothing"
            raise UserError(
                f"{display(self.path)}: holds no {missing[0]} (it has {keys}); statistics are an .npz with mu and sigma"
            )
        shapes = self.header(mu, "fiu").shape, self.header(sigma, "fiu").shape
        if shapes != ((dim,), (dim, dim)):
            raise UserError(
                f"{display(self.path)}: {mu} {shapes[0]} and {sigma} {shapes[1]}, but {what} has {dim} features; "
                "provide statistics of the same features"
            )
        mean, covariance = (self.read(key).astype(np.float64) for key in (mu, sigma))
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise self.refused(f"{mu} or {sigma} holds values that are not finite")
        # Symmetric up to what float32 leaves, as some of the published files are.
        if (covariance.diagonal() < 0).any() or not np.allclose(covariance, covariance.T, rtol=1e-3, atol=1e-6):
            raise self.refused(f"{sigma} is not a covariance (negative variances, or not symmetric)")
        return mean, covariance

    def count(self) -> int:
        if self.header("n", "fiu").shape != ():
            raise self.refused("n is not a number of images")
        value = float(self.read("n"))
        if not (value >= 1 and value.is_integer()):
            raise self.refused(f"n is {value:g}, not a number of images")
        return int(value)

    def features(self, dim: int, n: int | None) -> np.ndarray:
        shape = self.header("features", "f").shape
        if len(shape) != 2 or shape[1] != dim or not 1 <= shape[0] <= min(MOST_ROWS, n or MOST_ROWS):
            images = "" if n is None else f" of at most {n} images"
            raise self.refused(f"features are {shape}, expected {dim}{images}")
        rows = self.read("features").astype(np.float32)
        if not np.isfinite(rows).all():
            raise self.refused("features hold values that are not finite")
        return rows

    def about(self) -> dict[str, Any]:
        header = self.header("about", "U")
        if header.shape != () or header.dtype.itemsize > MOST_TEXT:
            raise self.refused("about is not one text")
        about = json.loads(str(self.read("about")))
        if not isinstance(about, dict):
            raise self.refused("about is not a JSON object")
        return about

    def header(self, name: str, kinds: str) -> ArrayHeader:
        """The header of an array whose type is of one of numpy's `kinds`."""
        with self.archive.open(f"{name}.npy") as stream:
            header = read_header(stream)
        if header.dtype.kind not in kinds:
            raise self.refused(f"{name} is {header.dtype}, expected {'text' if kinds == 'U' else 'real numbers'}")
        return header

    def read(self, name: str) -> np.ndarray:
        return read_member(self.archive, f"{name}.npy")

    def refused(self, what: str) -> UserError:
        return UserError(f"{display(self.path)}: {what}; {AGAIN}")
