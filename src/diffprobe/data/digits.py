"""The handwritten digits inside scikit-learn: 1,797 real images, 8x8, 17 grey levels, 10 classes."""

import numpy as np


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (1797, 8, 8, 1) over the full range, labels int64 (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # (N, 8, 8, 1)
    return images, bunch.target.astype(np.int64)
