"""What experiments on one dataset are compared by: the layer and noise level that each prefers, where generation and
representation part ways, and the best of each evaluator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diffprobe.reporting.rows import Choice
from diffprobe.reporting.tables import (
    FD,
    PROBE,
    PUBLISHED,
    Cells,
    accuracy,
    best_of_both,
    by_level,
    distances,
    of_classifiers,
    whole_checkpoints,
)
from diffprobe.reporting.tables import test_accuracies as tested

# Columns of the table of experiments that come before the accuracies on `test`, and those after them.
FIRST = ["experiment", "chosen kimg", "tap", "depth", "sigma", "log-SNR", "chosen on"]
LAST = ["distance", "probe", f"{PROBE} kimg", f"{PROBE} distance", f"{PROBE} select"]
LAST += [f"{FD} kimg", f"{FD} distance", f"{FD} select", "apart kimg"]
EVALUATORS = ["evaluator", "best", "test", "second", "second test", "difference", "spreads"]
POINTS = ["panel", "experiment", "series", "x", "y", "spread", "tap", "sigma", "kimg", "marked"]


@dataclass(frozen=True)
class Probed:
    """An experiment with a probe."""

    name: str
    choice: Choice
    grid: pd.DataFrame  # of the chosen checkpoint: a line for each cell and setting
    taps: Sequence[str]  # in the order of computation

    @property
    def cells(self) -> pd.DataFrame:
        """Columns tap, level, sigma, log_snr, accuracy of its best setting, and `depth`: 0 of the first tap, 1 of the
        last.
        """
        cells = self.grid.groupby(["tap", "level"], as_index=False)[["sigma", "log_snr", "accuracy"]].max()
        return cells.assign(depth=cells["tap"].map(self.depths))

    @property
    def depths(self) -> dict[str, float]:
        last = max(len(self.taps) - 1, 1)
        return {tap: i / last for i, tap in enumerate(self.taps)}


def experiments(frame: pd.DataFrame, probed: Sequence[Probed]) -> pd.DataFrame:
    """One row per experiment: its preferred layer and level, its accuracies on `test` as in results.csv, and the
    checkpoint with the best features beside that with the best samples as in best.csv; `apart kimg` is the second less
    the first.

    `frame` is a summary. `depth` is the layer's place among the probed ones, from 0 to 1; empty where there is one.
    """
    lines: list[Cells] = []
    for one in probed:
        mine = frame[frame["experiment"] == one.name]
        both = best_of_both(mine, one.choice)
        line = {"experiment": one.name, **tested(frame, mine, one.choice), **both}
        line["depth"] = round(one.depths[one.choice["tap"]], 3) if len(one.taps) > 1 else None
        line["log-SNR"] = log_snr(one.choice["sigma"])
        if f"{FD} kimg" in both:
            line["apart kimg"] = int(str(both[f"{FD} kimg"])) - one.choice["kimg"]
        lines.append(line)
    table = pd.DataFrame(lines)
    tests = [name for name in table if name.endswith(" test") and name != "probe test"]
    return whole_checkpoints(table.reindex(columns=[*FIRST, *tests, *LAST]))


def log_snr(sigma: float) -> float | None:
    """ln(alpha^2 / sigma^2), rounded; None for an image as it is."""
    return round(float(-2 * np.log(sigma)), 2) if sigma else None


def on_test(frame: pd.DataFrame, probed: Sequence[Probed]) -> pd.DataFrame:
    """The rows of `test` at each experiment's choice, by classifiers that are scored at one level, in the order of
    `probed`.
    """
    parts = []
    for one in probed:
        mine = frame[(frame["experiment"] == one.name) & of_classifiers(frame)]
        parts.append(mine[(mine["kimg"] == one.choice["kimg"]) & ~by_level(mine)])
    rows = pd.concat(parts)
    return rows[~rows["evaluator"].str.endswith("_top5")]


def evaluators(frame: pd.DataFrame, probed: Sequence[Probed]) -> pd.DataFrame:
    """One row per evaluator of at least one experiment: the best experiment and the second on `test`, with the spreads
    of their seeds. `difference` is in percentage points, `spreads` the same in units of both spreads together.
    """
    lines = []
    for evaluator, rows in on_test(frame, probed).groupby("evaluator", sort=False):
        ordered = rows.sort_values("value", ascending=False, kind="stable")
        first, second = ordered.iloc[:1], ordered.iloc[1:2]
        line: Cells = {"evaluator": evaluator, "best": first["experiment"].item(), "test": accuracy(first)}
        if len(second):
            difference = first["value"].item() - second["value"].item()
            both = float(np.hypot(first["spread"].item(), second["spread"].item()))  # NaN where one has no seeds
            line |= {"second": second["experiment"].item(), "second test": accuracy(second)}
            line |= {"difference": round(100 * difference, 2)}
            line |= {"spreads": round(difference / both, 1) if both > 0 else None}
        lines.append(line)
    return pd.DataFrame(lines, columns=EVALUATORS)


def points(frame: pd.DataFrame, probed: Sequence[Probed]) -> pd.DataFrame:
    """What the figure of the comparison shows: a line for each of its points, columns POINTS.

    Panels: `level`, accuracy at each level's best layer over log-SNR; `layer`, accuracy at each layer's best level over
    depth; `parting`, accuracy over distance at each checkpoint; `evaluators`, accuracy on `test`. Accuracies are in per
    cent. `marked`: `chosen`, or of a checkpoint `best probe`, `best FD` or both.
    """
    lines: list[dict[str, object]] = []
    distance = next(iter(distances(frame[frame["experiment"].isin([one.name for one in probed])])), None)
    for one in probed:
        cells, choice = one.cells, one.choice
        cells["chosen"] = (cells["tap"] == choice["tap"]) & (cells["level"] == choice["level"])
        for panel, by, x in (("level", "level", "log_snr"), ("layer", "tap", "depth")):
            if panel == "layer" and len(one.taps) == 1:
                continue  # which is neither the first nor the last
            ranked = cells.sort_values(["accuracy", "chosen"], ascending=False, kind="stable")
            for cell in ranked.drop_duplicates(by).sort_values(x).to_dict("records"):
                place = {"tap": cell["tap"], "sigma": cell["sigma"], "kimg": choice["kimg"]}
                place |= {"x": cell[x] if panel == "layer" or cell["sigma"] else np.inf, "y": 100 * cell["accuracy"]}
                about = {"panel": panel, "experiment": one.name, "series": choice["scorer"]}
                lines.append(about | place | {"marked": "chosen" if cell["chosen"] else ""})
        mine = frame[frame["experiment"] == one.name]
        lines += parting(mine, one, distance) if distance else []
    for row in on_test(frame, probed).to_dict("records"):
        place = {
            "panel": "evaluators",
            "experiment": row["experiment"],
            "series": row["evaluator"],
            "kimg": row["kimg"],
        }
        place |= {"tap": row["tap"], "sigma": row["sigma"], "y": 100 * row["value"], "spread": 100 * row["spread"]}
        lines.append(place)
    return pd.DataFrame(lines, columns=POINTS)


def parting(mine: pd.DataFrame, one: Probed, distance: str) -> list[dict[str, object]]:
    """A point for each checkpoint of an experiment that has both figures; the distance by its best sampler."""
    scored = mine[(mine["evaluator"] == one.choice["scorer"]) & mine["split"].isin(["select", "published"])]
    measured = mine[mine["evaluator"] == distance].sort_values("value").drop_duplicates("kimg")
    both = scored.merge(measured, on="kimg", suffixes=("", " distance")).sort_values("kimg")
    lines: list[dict[str, object]] = []
    lowest = both["value distance"].min()
    for row in both.to_dict("records"):
        marks = [PROBE] if row["kimg"] == one.choice["kimg"] else []
        marks += [FD] if row["value distance"] == lowest else []
        place = {"x": row["value distance"], "y": 100 * row["value"], "spread": 100 * row["spread"]}
        about = {"panel": "parting", "experiment": one.name, "series": distance, "kimg": row["kimg"]}
        lines.append(about | place | {"tap": row["tap"], "sigma": row["sigma"], "marked": ", ".join(marks)})
    return lines


def split_words(choices: Sequence[Choice]) -> str:
    """The split that accuracies before the choice are on, as an axis names it."""
    published = {choice["selection"] == "published" for choice in choices}
    return PUBLISHED if published == {True} else "select" if published == {False} else "select, or test as published"


def place_words(choice: Choice) -> str:
    """The chosen cell in a legend."""
    return f"{choice['tap']}, " + (f"σ {choice['sigma']:.3g}" if choice["sigma"] else "clean")
