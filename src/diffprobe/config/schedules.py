"""Tables of noise levels as plain data, for the config's checks and for the processes alike."""

import math


def linear_betas(steps: int, beta_min: float, beta_max: float) -> list[float]:
    """The linear schedule of Ho et al. 2020, section 4: beta_1 .. beta_T."""
    return [beta_min + (beta_max - beta_min) * i / max(steps - 1, 1) for i in range(steps)]


def linear_abar(steps: int, beta_min: float, beta_max: float) -> list[float]:
    """abar_0 .. abar_T, the products of 1 - beta; abar_0 = 1 is the clean image."""
    return products(linear_betas(steps, beta_min, beta_max), first=0.0)


def ddae_abar(steps: int, beta_min: float, beta_max: float) -> list[float]:
    """The table that DDAE's DDIM reads: T + 1 betas where there should be a zero and T of them, so that every level is
    somewhat noisier than in training, and the last one, abar_0 = 1 - beta_min, is not clean.
    """
    betas = linear_betas(steps + 1, beta_min, beta_max)
    return products(betas[1:], first=betas[0])


def products(betas: list[float], first: float) -> list[float]:
    """Running products of 1 - beta over `first` and `betas`, summed as logarithms."""
    total = math.log1p(-first)
    found = [math.exp(total)]
    for beta in betas:
        total += math.log1p(-beta)
        found.append(math.exp(total))
    return found


def edm_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """The levels of Karras et al. 2022, eq. 5, from sigma_max down to sigma_min."""
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]


def ratios(abar: list[float]) -> list[float]:
    """sigma/alpha of each entry: sqrt((1 - abar) / abar)."""
    return [math.sqrt((1 - a) / a) for a in abar]


def nearest(ratio: float, known: list[float]) -> int:
    """The step t >= 1 whose sigma/alpha is nearest to `ratio` in log-SNR."""
    return min(range(1, len(known)), key=lambda t: abs(math.log(known[t] / ratio)))


def spaced(count: int, steps: int) -> list[int]:
    """`count` of the steps 1 .. T, evenly spaced from the first on, the noisiest first: 991, 981, .., 1 for 100 of
    1,000 (Song et al. 2021, DDIM, appendix D.2, linear).
    """
    return [1 + i * steps // count for i in reversed(range(count))]
