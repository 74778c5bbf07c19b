"""Similarity of representations of the same images: linear CKA, and agreement of nearest neighbours (CKNNA).

Kornblith, Norouzi, Lee and Hinton, Similarity of neural network representations revisited, ICML 2019; Song, Smola,
Gretton, Bedo and Borgwardt, Feature selection via dependence maximization, JMLR 2012; Huh, Cheung, Wang and Isola, The
Platonic representation hypothesis, ICML 2024.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MEMORY = 2**28  # bytes of rows of kernel matrices that are held at a time
PAIRS = 2**22  # pairs of neighbours compared at a time


def cka(xs: Sequence[Tensor], ys: Sequence[Tensor], unbiased: bool = True, memory: float = MEMORY) -> Tensor:
    """Linear CKA of each of xs, A tensors (n, D), with each of ys, B tensors (n, E), float64 (A, B).

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the kernels x x^T and y y^T (2019, eq. 3). By default HSIC is the
    unbiased estimate (2012, eq. 5), which about 0 of unrelated features of any width; else tr(K H L H), which grows
    with the width. NaN where features are the same for all images. n is at least 4.
    """
    n = len(xs[0])
    xs, ys = ([standardised(x) for x in several] for several in (xs, ys))
    products = torch.zeros(len(xs), len(ys), dtype=torch.float64)
    squares = torch.zeros(len(xs), dtype=torch.float64), torch.zeros(len(ys), dtype=torch.float64)
    for rows in blocks(n, memory / (12 * n * (len(xs) + len(ys)))):
        k, m = (torch.stack([kernel_rows(x, rows, unbiased).flatten() for x in several]) for several in (xs, ys))
        products += (k.double() @ m.double().T).cpu()  # (A, B), over the entries of these rows
        for total, part in zip(squares, (k, m), strict=True):
            total += part.square().sum(1, dtype=torch.float64).cpu()
    return products / (squares[0][:, None] * squares[1]).sqrt()


def standardised(x: Tensor) -> Tensor:
    """Rows (n, D), float32, minus their mean, of mean square norm 1; zeros where all are the same."""
    x = x.double() - x.double().mean(0)
    return F.normalize(x.flatten(), dim=0).view_as(x).mul(len(x) ** 0.5).float()


def blocks(n: int, most: float) -> Iterator[slice]:
    """Slices of n rows, of at most so many, at least one."""
    step = max(1, int(most))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def kernel_rows(x: Tensor, rows: slice, unbiased: bool) -> Tensor:
    """Some rows (b, n) of the centred kernel matrix of x (n, D), which is centred itself.

    For the biased HSIC that is H K H. For the unbiased one it is K without its diagonal, U-centred (Székely and Rizzo
    2014, section 3): the sum of the products of two such matrices is n (n - 3) times eq. 5 of Song et al.
    """
    kernel = x[rows] @ x.T  # (b, n)
    if not unbiased:
        return kernel
    n, norms = len(x), x.square().sum(1)  # (n,)
    # The rows of x sum to 0, so a row of K without its diagonal sums to minus that.
    kernel += (norms[rows, None] + norms) / (n - 2) - norms.sum() / ((n - 1) * (n - 2))
    kernel[torch.arange(len(kernel)), torch.arange(n)[rows]] = 0
    return kernel


# --- agreement of nearest neighbours


class Neighbourhoods(NamedTuple):
    """The k nearest other images of each of n images."""

    indices: Tensor  # int64 (n, k)
    kernel: Tensor  # float64 (n, k): the centred kernel between an image and each


def cknna(xs: Sequence[Tensor], ys: Sequence[Tensor], k: int, memory: float = MEMORY) -> Tensor:
    """CKNNA of each of xs, A tensors (n, D), with each of ys, B tensors (n, E), float64 (A, B) (2024, appendix A).

    Align(K, L) / sqrt(Align(K, K) Align(L, L)), where Align(K, L) is the sum of the products of two centred kernels
    over the pairs of images (i, j), i != j, with j among the k nearest of i in both. Features are divided by their
    norm, as there; NaN where all are 0. k is below n.
    """
    near_x, near_y = ([neighbourhoods(x, k, memory) for x in several] for several in (xs, ys))
    return torch.stack([torch.stack([agreement(x, y) for y in near_y]) for x in near_x]).cpu()


def neighbourhoods(x: Tensor, k: int, memory: float = MEMORY) -> Neighbourhoods:
    """Of rows (n, D): those with the highest cosine, and H K H of the cosines K."""
    x = F.normalize(x.double(), dim=1)  # float64, since neighbours may be as near as 1e-7
    mean = x.mean(0)
    to_mean = x @ mean  # (n,): the mean of each row of K
    nearest = []
    for rows in blocks(len(x), memory / (8 * len(x))):
        kernel = x[rows] @ x.T  # (b, n)
        kernel[torch.arange(len(kernel)), torch.arange(len(x))[rows]] = -torch.inf
        values, indices = kernel.topk(k, dim=1)
        nearest.append((indices, values - to_mean[rows, None] - to_mean[indices] + mean.square().sum()))
    return Neighbourhoods(*(torch.cat(parts) for parts in zip(*nearest, strict=True)))


def agreement(a: Neighbourhoods, b: Neighbourhoods) -> Tensor:
    """CKNNA of two sets of neighbourhoods (n, k), a scalar."""
    k = a.indices.shape[1]
    common = a.kernel.new_zeros(())
    for rows in blocks(len(a.indices), PAIRS / k**2):
        same = a.indices[rows, :, None] == b.indices[rows, None, :]  # (b, k, k)
        common += (a.kernel[rows, :, None] * b.kernel[rows, None, :] * same).sum()
    return common / (a.kernel.square().sum() * b.kernel.square().sum()).sqrt()
