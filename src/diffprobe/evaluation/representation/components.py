"""Features in few dimensions, for pictures: principal components, and a plane of images by t-SNE."""

from typing import NamedTuple

import numpy as np

PLANE_WIDTH = 50  # principal components that t-SNE sees, as van der Maaten and Hinton (2008, section 4.2) have it
START = 1e-4  # standard deviation of the first coordinates from which t-SNE begins


class Components(NamedTuple):
    """Rows by their first K principal components."""

    values: np.ndarray  # float64 (N, K)
    shares: np.ndarray  # float64 (K,): of the variance of all rows


def components(x: np.ndarray, count: int) -> Components:
    """The first `count` principal components of rows x (N, D): x less its mean, times its right singular vectors.

    The sign of each is such that the entry of its vector that is largest in magnitude is positive. Components beyond
    min(N, D) are zeros.
    """
    centred = x - x.mean(0, dtype=np.float64)
    # Of the triangular factor the right singular vectors are the same, and it has at most D rows however many N are.
    _, scales, directions = np.linalg.svd(np.linalg.qr(centred, mode="r"), full_matrices=False)
    largest = np.abs(directions).argmax(1)
    directions *= np.where(directions[np.arange(len(directions)), largest] < 0, -1, 1)[:, None]
    values, shares = np.zeros((len(x), count)), np.zeros(count)
    kept = min(count, len(scales))
    values[:, :kept] = centred @ directions[:kept].T
    if scales.any():
        shares[:kept] = scales[:kept] ** 2 / (scales**2).sum()
    return Components(values, shares)


def plane(x: np.ndarray, perplexity: float) -> np.ndarray:
    """Rows x (N, D) as points float32 (N, 2), neighbours beside each other: t-SNE (van der Maaten and Hinton 2008) of
    their first principal components.

    It begins at the first two components (Kobak and Berens 2019), so nothing is drawn at random. `perplexity` is at
    most a third of the other rows, as many neighbours as Barnes and Hut's method reads for each.
    """
    from sklearn.manifold import TSNE  # here, since it takes a second to load

    reduced = components(x, PLANE_WIDTH).values
    first = reduced[:, :2] * (START / (reduced[:, 0].std() or 1))
    method = TSNE(perplexity=min(perplexity, (len(x) - 1) / 3), init=first.astype(np.float32))
    points: np.ndarray = method.fit_transform(reduced.astype(np.float32))
    return points
