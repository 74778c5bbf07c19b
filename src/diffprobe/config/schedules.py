"""Noise schedules as plain data, shared by the config's checks and the diffusion processes."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate


def linear_betas(steps: int, beta_min: float, beta_max: float) -> list[float]:
    """The linear schedule of Ho et al. 2020, section 4: beta_1 .. beta_T."""
    return [beta_min + (beta_max - beta_min) * i / max(steps - 1, 1) for i in range(steps)]


def linear_abar(steps: int, beta_min: float, beta_max: float) -> list[float]:
    """abar_0 .. abar_T, the cumulative products of 1 - beta; abar_0 = 1 is the clean image."""
    return products(linear_betas(steps, beta_min, beta_max), first=0.0)


def cosine(u: float) -> float:
    """abar, not normalised, at the share u of the steps (Nichol & Dhariwal 2021, eq. 17)."""
    return math.cos((u + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2


def inverted_cosine(u: float) -> float:
    """Its inverse function, which spends most steps at medium noise (Hudson et al., SODA, 2023). Negative at u = 1."""
    return 2 * (1 + OFFSET) / math.pi * math.acos(math.sqrt(u)) - OFFSET


OFFSET = 0.008  # s of their eq. 17
MOST_BETA = 0.999  # theirs; without a bound the last step would leave nothing of the image
CURVES: dict[str, Callable[[float], float]] = {"cosine": cosine, "inverted": inverted_cosine}


def curve_betas(curve: Callable[[float], float], steps: int) -> list[float]:
    """beta_1 .. beta_T of a curve of abar over [0, 1], at most `MOST_BETA`."""
    return [min(1 - curve((t + 1) / steps) / curve(t / steps), MOST_BETA) for t in range(steps)]


def discrete_abar(schedule: str, steps: int, beta_min: float, beta_max: float) -> list[float]:
    """abar_0 .. abar_T of a schedule by name: `linear`, which alone has the two betas, or one of `CURVES`."""
    if schedule == "linear":
        return linear_abar(steps, beta_min, beta_max)
    return products(curve_betas(CURVES[schedule], steps), first=0.0)


def ddae_abar(steps: int, beta_min: float, beta_max: float) -> list[float]:
    """The table used by DDAE's DDIM: T + 1 betas instead of a zero and T betas. Every level is slightly noisier than in
    training, and the last one, abar_0 = 1 - beta_min, is not clean.
    """
    betas = linear_betas(steps + 1, beta_min, beta_max)
    return products(betas[1:], first=betas[0])


def products(betas: list[float], first: float) -> list[float]:
    """Cumulative products of 1 - beta over `first` and `betas`, summed in log space for accuracy."""
    total = math.log1p(-first)
    abar = [math.exp(total)]
    for beta in betas:
        total += math.log1p(-beta)
        abar.append(math.exp(total))
    return abar


def edm_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """The levels of Karras et al. 2022, eq. 5, from sigma_max down to sigma_min."""
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]


def ratios(abar: list[float]) -> list[float]:
    """sigma/alpha of each entry: sqrt((1 - abar) / abar)."""
    return [math.sqrt((1 - a) / a) for a in abar]


def nearest(ratio: float, table: list[float]) -> int:
    """The step t >= 1 whose sigma/alpha `table[t]` is nearest to `ratio` in log-SNR."""
    return min(range(1, len(table)), key=lambda t: abs(math.log(table[t] / ratio)))


def spaced(count: int, steps: int, spacing: str | Sequence[int] = "even") -> list[int]:
    """About `count` of the steps 1 .. T including 1, noisiest first; for 100 of 1,000 `even` and `ddae` give 991, 981,
    .., 1.

    `even`: exactly `count`, as evenly as integers can be (Song et al. 2021, DDIM, appendix D.2, linear). `ddae`: every
    (T // count)-th, as DDAE's code takes them; more than `count` where that does not divide T (31 for 30 of 1,000).

    The others are those of ADM's code (Dhariwal & Nichol 2021), which DiT uses and which counts from 0. `dit`, its
    plain number: exactly `count` from 1 to T, both included, at multiples of (T - 1) / (count - 1) rounded half to
    even: 0, 4, .., 995, 999. Numbers, its comma list: so many of each of as many equal sections. `ddim`: at the integer
    stride that takes exactly `count`. Raises ValueError, saying what is allowed, where there are no such steps.
    """
    if spacing == "ddae":
        return list(reversed(range(1, steps + 1, steps // count)))
    if spacing == "ddim":
        return list(reversed(range(1, steps + 1, ddim_stride(count, steps))))
    if spacing == "dit":
        spacing = [count]
    if not isinstance(spacing, str):
        taken = [start + step for start, size, n in sections(spacing, steps) for step in ends(n, size)]
        return [1 + step for step in reversed(taken)]
    return [1 + i * steps // count for i in reversed(range(count))]


def ddim_stride(count: int, steps: int) -> int:
    """The stride that takes exactly `count` of T steps. Raises ValueError, saying what is allowed."""
    # Of a stride s it takes ceil(T / s); only the first and the next could take `count`.
    least = -(-steps // count)
    if -(-steps // least) == count:
        return least
    raise ValueError(f"dit or even, since no stride takes {count} of {steps} steps ({-(-steps // least)} would do)")


def sections(counts: Sequence[int], steps: int) -> Iterator[tuple[int, int, int]]:
    """Each section of the steps 0 .. T - 1: its start, its size, and how many are taken of it. The first ones are one
    longer where T does not divide. Raises ValueError, saying what is allowed, for more than there are.
    """
    start, (size, longer) = 0, divmod(steps, len(counts))
    for i, count in enumerate(counts):
        whole = size + (i < longer)
        if count > whole:
            raise ValueError(f"at most {whole} of each of {len(counts)} sections of {steps} steps")
        yield start, whole, count
        start += whole


def ends(count: int, size: int) -> list[int]:
    """`count` of the steps 0 .. size - 1, evenly from the first to the last; of one the first."""
    stride = (size - 1) / (count - 1) if count > 1 else 1.0
    # Summed and not multiplied, as theirs: rounding in the last bit decides where a multiple ends in one half.
    return [round(position) for position in accumulate([stride] * (count - 1), initial=0.0)]
