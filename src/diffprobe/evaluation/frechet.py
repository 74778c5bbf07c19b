"""The Frechet distance between two Gaussians: FID where they are fitted to Inception features."""

import numpy as np
from scipy import linalg


def half(sigma: np.ndarray) -> np.ndarray:
    """A (D, R) with A A^T = sigma, R its numerical rank; sigma (D, D) symmetric, positive semi-definite.

    Eigenvalues that are rounding only are left out: over thousands of null directions their square roots
    would add up to a visible error. It also makes a covariance of few images cheap.
    """
    values, vectors = linalg.eigh(sigma, driver="evd")  # (D,) ascending, (D, D)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    mu (D,), sigma (D, D), float64, of any rank. With S1 = A A^T and S2 = B B^T the eigenvalues of S1 S2 are
    the squared singular values of A^T B. So nothing leaves the real numbers, no square root is taken of
    rounding errors, and equal inputs give 0 to the last digits even where the covariance is singular.
    """
    delta = mu1 - mu2  # (D,)
    overlap = linalg.svdvals(half(sigma1).T @ half(sigma2)).sum()
    return float(delta @ delta + np.trace(sigma1) + np.trace(sigma2) - 2 * overlap)
