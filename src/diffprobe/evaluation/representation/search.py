"""Coarse-to-fine search for the noise levels at which features are best."""

import math
from collections.abc import Callable

from diffprobe.plan.probe_arguments import SearchPlan


def search(plan: SearchPlan, snap: Callable[[float], float], score: Callable[[float], float]) -> dict[float, float]:
    """Score levels, by sigma/alpha: `coarse` of them evenly in log-SNR from `low` to `high`, then in each of `rounds`
    the two midway between the best so far and its neighbours.

    `snap` maps a level to the nearest one that the process has; of `score` more is better. Returns the score of every
    level that was tried.
    """
    low, high = math.log(plan.low), math.log(plan.high)  # log-SNR is -2 ln(sigma/alpha): even in one, even in the other
    scores: dict[float, float] = {}

    def try_level(log_ratio: float) -> None:
        ratio = snap(math.exp(log_ratio))
        if ratio not in scores:  # levels that snap to the same one are scored once
            scores[ratio] = score(ratio)

    for i in range(plan.coarse):
        try_level(low + (high - low) * i / (plan.coarse - 1))
    for _ in range(plan.rounds):
        ratios = sorted(scores)
        at = ratios.index(max(ratios, key=scores.__getitem__))
        # At the edge of the range the best is its own neighbour, whose level is tried already.
        for neighbour in (ratios[max(at - 1, 0)], ratios[min(at + 1, len(ratios) - 1)]):
            try_level((math.log(ratios[at]) + math.log(neighbour)) / 2)
    return scores


def best(scores: dict[float, float], keep: int) -> list[float]:
    """The `keep` levels of the highest score, in rising order."""
    return sorted(sorted(scores, key=scores.__getitem__, reverse=True)[:keep])
