"""The nearest training images of generated ones, pixel by pixel, and what they tell of memorisation.

A sample counts as memorised if its nearest training image is less than a third as far away as the second nearest
(Yoon, Choi, Kwon and Ryu 2023, Diffusion probabilistic models generalize when they fail to memorize; used too by
Gu et al. 2023, arXiv 2310.02664).
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError

MEMORISED = 1 / 3  # ratios below this are those of memorised samples
GREY = 128  # pixels are centred on it: small whole numbers, exact in TF32 too, whose products lose few digits
EPS = torch.finfo(torch.float32).eps
FAR = torch.iinfo(torch.int64).max  # a squared distance beyond any
WORK = 1 << 24  # pixels compared at once


def nearest(
    queries: Tensor, real: Iterable[np.ndarray], k: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The k nearest images of a stream: Euclidean distances in grey levels, float64 (M, k) rising; rows, int64 (M, k).

    queries uint8 (M, H, W, C); `real` yields uint8 (B, H, W, C), each batch is seen once and let go; row i is the
    i-th image of the stream. Both results are on the CPU and the same for any cutting into batches and any device:
    squared distances are whole numbers, never rounded, and of equally near images the earlier comes first.
    UserError if the stream has fewer than k images or images of another shape.
    """
    flat = queries.flatten(1).to(device)  # (M, D)
    squared = torch.full((len(flat), k), FAR, device=device)  # int64, of the nearest so far
    rows = torch.full_like(squared, -1)
    seen = 0
    for batch in real:
        refuse_other_shape(tuple(queries.shape[1:]), batch.shape[1:])
        images = torch.from_numpy(batch).flatten(1).to(device)  # (B, D)
        numbers = torch.arange(seen, seen + len(images), device=device).expand(len(flat), -1)
        found = torch.cat([squared, near_squared(flat, images, squared[:, -1], k)], 1)  # (M, k + B)
        squared, order = (part[:, :k] for part in found.sort(dim=1, stable=True))
        rows = torch.cat([rows, numbers], 1).gather(1, order)
        seen += len(images)
    if seen < k:
        raise UserError(f"{k} nearest training images need at least {k} of them, here are {seen}")
    # NumPy rounds roots correctly, while torch's may be off in the last digit.
    return torch.from_numpy(np.sqrt(squared.cpu().numpy())), rows.cpu()


def near_squared(queries: Tensor, images: Tensor, reach: Tensor, k: int) -> Tensor:
    """Squared distances int64 (M, B) where an image may be one of the k nearest, FAR elsewhere.

    queries uint8 (M, D), images uint8 (B, D), reach int64 (M,): the squared distance beyond which no image counts.
    """
    may = candidates(queries, images, reach, k)
    pairs, step = may.nonzero(), max(1, WORK // queries.shape[1])
    parts = [squared_distances(queries[q], images[i]) for q, i in (part.T for part in pairs.split(step))]
    squared = torch.full(may.shape, FAR, device=may.device)
    squared[may] = torch.cat(parts)  # both go row by row
    return squared


def candidates(queries: Tensor, images: Tensor, reach: Tensor, k: int) -> Tensor:
    """Which images (M, B) may be among the k nearest within reach; none that is one is missed, few others are in.

    One float32 product tells, for it is fast. With D pixels it puts squared distances off by D eps (|a|² + |b|²) / 2
    at most (Higham 2002, section 3.1), in whatever order it is summed; twice that is allowed. Norms are exact.
    """
    a, b = queries.float() - GREY, images.float() - GREY  # (M, D), (B, D)
    norms = squared_norms(a)[:, None] + squared_norms(b)  # (M, B)
    squared, slack = norms - 2 * (a @ b.T).double(), a.shape[1] * EPS * norms
    bound = reach.double()
    if len(b) >= k:
        bound = bound.minimum((squared + slack).topk(k, largest=False).values[:, -1])
    return squared - slack <= bound[:, None]


def squared_norms(rows: Tensor) -> Tensor:
    return rows.square().sum(1, dtype=torch.float64)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Of each row of a, uint8 (P, D), to the same row of b: int64 (P,)."""
    return (a.int() - b.int()).square().sum(1)


def ratios(distances: Tensor) -> Tensor:
    """The distance to the nearest over that to the second nearest, (M,) in [0, 1], of distances (M, k >= 2) rising.

    An exact copy has ratio 0, even of an image that is there twice.
    """
    first, second = distances[:, 0], distances[:, 1]
    return torch.where(first == 0, 0.0, first / second)


def refuse_other_shape(generated: tuple[int, ...], real: tuple[int, ...]) -> None:
    if generated != real:
        sizes = [" x ".join(map(str, shape)) for shape in (generated, real)]
        raise UserError(f"generated images are {sizes[0]}, those of the dataset {sizes[1]}: bring both to one size")
