"""The kernel distance between two sets of features: KID where they are Inception's (Bińkowski et al. 2018)."""

import torch
from torch import Tensor

from diffprobe.runtime.keyed import Key, permutation

SUBSETS, SIZE = 100, 1000  # as published: the mean over 100 pairs of subsets of 1,000


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = SUBSETS, size: int | None = None) -> tuple[float, float]:
    """Mean and standard deviation of the squared MMD over pairs of random subsets, the same for the same sets.

    real (N, D), fake (M, D), any floating type; computed in float64. `size` defaults to `subset_size`.
    """
    size = size or subset_size(len(real), len(fake))
    # The estimate is a small difference of means of cubes, so its digits need float64.
    real, fake = real.double(), fake.double()

    def draw(rows: Tensor, which: str, number: int) -> Tensor:  # (size, D), without replacement
        # Keyed by set and number, not by the sets' features: another extractor compares the same images.
        return rows[permutation(Key(0, f"kernel/{which}"), len(rows), number)[:size].to(rows.device)]

    estimates = [squared_mmd(draw(real, "real", i), draw(fake, "fake", i)) for i in range(subsets)]
    values = torch.tensor(estimates, dtype=torch.float64)
    # The spread over subsets, as published; it says nothing of the spread over repeated sampling.
    return values.mean().item(), values.std(correction=0).item()


def subset_size(real: int, fake: int) -> int:
    """1,000, or half of the smaller set where that is less: subsets that are all the same would have no spread."""
    return min(SIZE, min(real, fake) // 2)


def squared_mmd(a: Tensor, b: Tensor) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, eq. 3); may be negative.

    a (A, D), b (B, D), float64, at least two rows each.
    """
    # Without the diagonal, the similarity of a row to itself, which would bias the means within a set.
    within_a, within_b = ((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (polynomial(a, a), polynomial(b, b)))
    return (within_a + within_b - 2 * polynomial(a, b).mean()).item()


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """The kernel (a.b / D + 1)^3 (Bińkowski et al. 2018, section 4) of rows (A, D) and (B, D): (A, B)."""
    return (a @ b.T / a.shape[1] + 1) ** 3  # degree 3, so that KID sees the first three moments of the features
