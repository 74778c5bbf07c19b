"""The nearest training images of generated ones, in pixels, to check samples for memorisation.

A sample counts as memorised if its nearest training image is less than a third as far away as the second nearest
(Yoon, Choi, Kwon and Ryu 2023, Diffusion probabilistic models generalize when they fail to memorize; used too by
Gu et al. 2023, arXiv 2310.02664).
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diffprobe.runtime import autosave
from diffprobe.runtime.errors import UserError

MEMORISED = 1 / 3  # ratios below this are those of memorised samples
GREY = 128  # pixels are centred on it: small integers, exact in TF32 too, with products that lose few digits
EPS = torch.finfo(torch.float32).eps
FAR = torch.iinfo(torch.int64).max  # larger than any squared distance
PIXELS = 1 << 24  # compared at once


def nearest(
    queries: Tensor, real: Iterable[np.ndarray], k: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The k nearest images of a stream: Euclidean distances in grey levels, float64 (M, k) rising; rows, int64 (M, k).

    queries uint8 (M, H, W, C); `real` yields uint8 (B, H, W, C), each batch is read once and not kept; row i is the
    i-th image of the stream. Both results are on the CPU and do not depend on batches or device: squared distances are
    integers, never rounded, and of equally near images the earlier comes first. UserError if the stream has fewer than
    k images, or images of another shape. In a job that saves its computations, a killed one passes over the images that
    it has compared with.
    """
    flat = queries.flatten(1).to(device)  # (M, D)
    squared = torch.full((len(flat), k), FAR, device=device)  # int64 (M, k), of the nearest so far
    rows = torch.full_like(squared, -1)
    seen, saved = 0, autosave.own()
    before = saved.read() if saved else {}
    if before:
        squared, rows = before["squared"].to(device), before["rows"].to(device)
    compared = int(before.get("compared", 0))
    for batch in real:
        if seen < compared:
            seen += len(batch)
            continue
        if (shape := tuple(queries.shape[1:])) != batch.shape[1:]:
            sizes = [" x ".join(map(str, size)) for size in (shape, batch.shape[1:])]
            raise UserError(f"generated images are {sizes[0]}, those of the dataset {sizes[1]}: bring both to one size")
        images = torch.from_numpy(batch).flatten(1).to(device)  # (B, D)
        numbers = torch.arange(seen, seen + len(images), device=device).expand(len(flat), -1)
        contenders = torch.cat([squared, near_squared(flat, images, squared[:, -1], k)], 1)  # (M, k + B)
        # A stable sort keeps the earlier of equally near images in front, which topk would not.
        squared, order = (part[:, :k] for part in contenders.sort(dim=1, stable=True))
        rows = torch.cat([rows, numbers], 1).gather(1, order)
        seen += len(images)
        if saved:
            saved.offer(partial(dict, squared=squared, rows=rows, compared=torch.tensor(seen)))
    if seen < k:
        raise UserError(f"{k} nearest training images need at least {k} of them, here are {seen}")
    # NumPy rounds roots correctly, while torch's may be off in the last digit.
    return torch.from_numpy(np.sqrt(squared.cpu().numpy())), rows.cpu()


def near_squared(queries: Tensor, images: Tensor, reach: Tensor, k: int) -> Tensor:
    """Squared distances int64 (M, B) where an image may be one of the k nearest, FAR elsewhere.

    queries uint8 (M, D), images uint8 (B, D), reach int64 (M,): the squared distance beyond which no image counts.
    """
    may = candidates(queries, images, reach, k)
    pairs, step = may.nonzero(), max(1, PIXELS // queries.shape[1])
    parts = [squared_distances(queries[q], images[i]) for q, i in (part.T for part in pairs.split(step))]
    squared = torch.full(may.shape, FAR, device=may.device)
    squared[may] = torch.cat(parts)  # a mask and nonzero go in the same order, row by row
    return squared


def candidates(queries: Tensor, images: Tensor, reach: Tensor, k: int) -> Tensor:
    """Which images (M, B) may be among the k nearest within reach: a bound that misses none of them.

    One fast float32 product decides. Its error in a squared distance of D pixels is at most D eps (|a|^2 + |b|^2) / 2
    in any order of summation (Higham 2002, section 3.1). Twice that is allowed; norms are exact.
    """
    a, b = queries.float() - GREY, images.float() - GREY  # (M, D), (B, D)
    a_norms, b_norms = (x.square().sum(1, dtype=torch.float64) for x in (a, b))
    norms = a_norms[:, None] + b_norms  # (M, B)
    squared, slack = norms - 2 * (a @ b.T).double(), a.shape[1] * EPS * norms
    bound = reach.double()
    if len(b) >= k:  # nothing beyond this batch's own k nearest, at the worst rounding, can be one of them
        bound = bound.minimum((squared + slack).topk(k, largest=False).values[:, -1])
    return squared - slack <= bound[:, None]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """From each row of a, uint8 (P, D), to the same row of b: int64 (P,), exact."""
    return (a.int() - b.int()).square().sum(1)


def ratios(distances: Tensor) -> Tensor:
    """The distance to the nearest over that to the second nearest, (M,) in [0, 1]; distances (M, k >= 2) rising."""
    first, second = distances[:, 0], distances[:, 1]
    # An exact copy has ratio 0, even of an image that is in the dataset twice, where it would be 0 / 0.
    return torch.where(first == 0, 0.0, first / second)
