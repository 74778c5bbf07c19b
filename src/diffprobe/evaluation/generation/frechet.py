"""The Fréchet distance between two Gaussians: FID where they are fitted to Inception features."""

import numpy as np
from scipy import linalg
from scipy.linalg.lapack import dpstrf

EPS = np.finfo(np.float64).eps
SAFE = 1e-8  # the relative error of the trace that squaring singular values may cost


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017, eq. 6).

    mu (D,), sigma (D, D), float64, of any rank. pytorch-fid takes the square root of the product S1 S2, which is not
    symmetric: its root may come out complex, or not at all where a covariance is singular, as that of fewer images than
    features always is. With S1 = A A^T and S2 = B B^T, the eigenvalues of S1 S2 are the squared singular values of
    A^T B. So nothing leaves the real numbers, and equal inputs give 0 to the last digits at any rank.
    """
    delta = mu1 - mu2  # (D,)
    # tr (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of S1 S2.
    trace_of_root = singular_value_sum(half(sigma1).T @ half(sigma2))
    return float(delta @ delta + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_of_root)


def half(sigma: np.ndarray) -> np.ndarray:
    """A (D, R) with A A^T = sigma, R its numerical rank; sigma (D, D) symmetric, positive semi-definite.

    By a Cholesky factorisation with pivots (Higham 1990), which takes a fifth of the time of an eigendecomposition, and
    less for a covariance of few images.
    """
    # It stops where only rounding is left: over thousands of null directions the roots of that would add up to a
    # visible error, since the root of 1e-16 is 1e-8.
    tolerance = len(sigma) * EPS * max(sigma.diagonal().max(), 0.0)
    lower, pivots, rank, _ = dpstrf(sigma, lower=1, tol=tolerance)  # (D, D), (D,) counted from 1
    factor = np.empty((len(sigma), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]  # undoes the permutation P^T sigma P = L L^T
    return factor


def singular_value_sum(matrix: np.ndarray) -> float:
    """The sum of a matrix's singular values."""
    # They are the roots of the eigenvalues of the smaller Gram matrix, which take half the time.
    squares = linalg.eigvalsh(matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T)
    if len(squares) and squares[0] > 0:
        roots = np.sqrt(squares)
        # Each eigenvalue is off by about EPS times the largest; to first order d(root) = d(square) / (2 root).
        if EPS * squares[-1] * (1 / roots).sum() < SAFE * roots.sum():
            return float(roots.sum())
    return float(linalg.svdvals(matrix).sum())  # squaring would cost digits that show
