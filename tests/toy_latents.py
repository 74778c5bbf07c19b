"""A small latent store whose moments anyone can compute; what the tests of the store share."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffprobe.config.latents import Crop, Identity
from diffprobe.data import images, views
from diffprobe.data.splits import SPLITS
from diffprobe.latents.completion import Scaling, finish
from diffprobe.latents.encoding import encode, split_arrays
from diffprobe.latents.identity import configured_scaling
from diffprobe.latents.parts import StorePlan
from diffprobe.runtime.errors import UserError

COUNTS = {"train": 700, "select": 300, "test": 20}
IDENTITY = {"autoencoder": {"name": "toy", "sha256": "a" * 64}, "dataset": "d" * 64, "size": 4, "dtype": "float32"}
VIEWS = {
    "train": views.expand([Identity(kind="identity"), Crop(kind="crop", pad=1)]),
    "select": views.expand([Identity(kind="identity")]),
    "test": views.expand([Identity(kind="identity")]),
}
MEASURED = "measured"


def toy_moments(pixels: Tensor) -> Tensor:
    """uint8 (B, 4, 4, 1) to moments (B, 4, 2, 2): an affine map of pixels; log-variances from -33 to 2."""
    x = pixels.float().reshape(-1, 1, 2, 2, 2, 2) / 255  # (B, 1, 2, 2, 2, 2)
    return torch.cat([3 * x[..., 0, 0], 5 + x[..., 0, 1], -x[..., 1, 0], 2 - 35 * x[..., 1, 1]], dim=1)


def write_images(path: Path) -> Path:
    """An image store, its splits mixed."""
    rng = np.random.default_rng(0)
    n = sum(COUNTS.values())
    split = rng.permutation(np.repeat([SPLITS.index(name) for name in COUNTS], list(COUNTS.values())))
    pixels = rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    images.write(path, pixels, rng.integers(0, 10, n), split, classes=[str(i) for i in range(10)])
    return path


def planned(folder: Path, **changes: object) -> StorePlan:
    return replace(StorePlan(folder / "latents.zarr", IDENTITY, 3, COUNTS, VIEWS, shard_chunks=1), **changes)


def complete(
    plan: StorePlan, pictures: Path, scale: str | float = MEASURED, published: Scaling | None = None
) -> list[str]:
    """Run what is missing; the keys of the shards that were written."""
    before = shards(plan.path)
    encode(plan, pictures, toy_moments, batch=64)
    with images.open_store(pictures) as file:
        arrays = split_arrays(file, list(COUNTS))
    finish(plan, *arrays, scale, configured_scaling(scale, published))
    return sorted(key for key, mark in shards(plan.path).items() if before.get(key) != mark)


def shards(path: Path) -> dict[str, tuple[int, int]]:
    stats = {str(file.relative_to(path)): file.stat() for file in path.glob("*/moments/c/**/*") if file.is_file()}
    return {key: (stat.st_ino, stat.st_mtime_ns) for key, stat in stats.items()}


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def copied(store: Path, folder: Path) -> Path:
    """A copy of a store and of its receipts."""
    shutil.copytree(store.parent, folder / "copy")
    return folder / "copy" / store.name


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images.h5")


@pytest.fixture(scope="module")
def original(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made by one writer, undisturbed."""
    store = planned(tmp_path_factory.mktemp("original"))
    complete(store, pictures)
    return store.path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return copied(original, tmp_path)
