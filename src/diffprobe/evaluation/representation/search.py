"""Coarse-to-fine search over noise: where features are best, found with a few levels."""

import math
from collections.abc import Callable
from typing import Any

Score = Callable[[float], float]  # of a level's sigma/alpha; more is better


def search(asked: dict[str, Any], snapped: Callable[[float], float], score: Score) -> dict[float, float]:
    """The score of every level tried, by sigma/alpha: `coarse` ones evenly in log-SNR from `low` to `high`, then in
    each of `rounds` the two midway between the best so far and its neighbours.

    `snapped` gives the level that a process has in place of one that is asked for.
    """
    low, high, coarse = math.log(asked["low"]), math.log(asked["high"]), asked["coarse"]
    found: dict[float, float] = {}

    def tried(log_ratio: float) -> None:
        ratio = snapped(math.exp(log_ratio))
        if ratio not in found:
            found[ratio] = score(ratio)

    for i in range(coarse):
        tried(low + (high - low) * i / (coarse - 1))
    for _ in range(asked["rounds"]):
        known = sorted(found)
        at = known.index(max(known, key=found.__getitem__))
        for neighbour in (known[max(at - 1, 0)], known[min(at + 1, len(known) - 1)]):
            tried((math.log(known[at]) + math.log(neighbour)) / 2)
    return found


def best(found: dict[float, float], keep: int) -> list[float]:
    """The `keep` best of the levels, from the least noise up."""
    return sorted(sorted(found, key=found.__getitem__, reverse=True)[:keep])
