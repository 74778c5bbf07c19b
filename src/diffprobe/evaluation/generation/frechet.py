"""The Frechet distance between two Gaussians: FID where they are fitted to Inception features."""

import numpy as np
from scipy import linalg
from scipy.linalg.lapack import dpstrf

EPS = np.finfo(np.float64).eps
SAFE = 1e-8  # part of the sum of roots that squaring may cost


def half(sigma: np.ndarray) -> np.ndarray:
    """A (D, R) with A A^T = sigma, R its numerical rank; sigma (D, D) symmetric, positive semi-definite.

    By a Cholesky factorisation with pivots (Higham 1990), which stops where only rounding is left: over thousands of
    null directions the square roots of that would add up to a visible error. It also makes a covariance of few images
    cheap, and takes a fifth of the time of an eigendecomposition.
    """
    tolerance = len(sigma) * EPS * max(sigma.diagonal().max(), 0.0)
    lower, pivots, rank, _ = dpstrf(sigma, lower=1, tol=tolerance)  # (D, D), (D,) counted from 1
    factor = np.empty((len(sigma), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor


def singular_sum(matrix: np.ndarray) -> float:
    """The sum of a matrix's singular values.

    As roots of the eigenvalues of M^T M, twice as fast, unless squaring has cost digits that would show.
    """
    squares = linalg.eigvalsh(matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T)
    if len(squares) and squares[0] > 0:
        roots = np.sqrt(squares)
        if EPS * squares[-1] * (1 / roots).sum() < SAFE * roots.sum():  # first order: d root = d square / (2 root)
            return roots.sum()
    return linalg.svdvals(matrix).sum()


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    mu (D,), sigma (D, D), float64, of any rank. With S1 = A A^T and S2 = B B^T the eigenvalues of S1 S2 are
    the squared singular values of A^T B. So nothing leaves the real numbers, no square root is taken of
    rounding errors, and equal inputs give 0 to the last digits even where the covariance is singular.
    """
    delta = mu1 - mu2  # (D,)
    overlap = singular_sum(half(sigma1).T @ half(sigma2))
    return float(delta @ delta + np.trace(sigma1) + np.trace(sigma2) - 2 * overlap)
