"""The handwritten digits inside scikit-learn: 1,797 real images, 8x8, 17 grey levels, 10 classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffprobe.config.sources.digits import Digits
from diffprobe.data.listing import Listing


def find(source: Digits, archives: Mapping[str, Path]) -> Listing:
    images, labels = load()
    return Listing(labels, tuple(map(str, range(10))), None, "scikit-learn load_digits", images)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (1797, 8, 8, 1) scaled to 0..255, labels int64 (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # (N, 8, 8, 1)
    return images, bunch.target.astype(np.int64)
