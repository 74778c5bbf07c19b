"""The grid over layer and noise, its best cell, and one evaluator at a cell: fitted on some splits, read on another."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from diffprobe.evaluation.representation.evaluators import MANY, Judged, fit, judge
from diffprobe.evaluation.representation.table import Source
from diffprobe.runtime.errors import UserError

SETTINGS = {"linear": "lr", "ridge": "strength", "logistic": "strength", "knn": "k"}  # what is tried of each kind


def score_level(
    source: Source,
    level: str,
    taps: Sequence[str],
    evaluator: dict[str, Any],
    seed: int,
    fit_on: Sequence[str],
    read_on: str,
    **options: Any,
) -> pd.DataFrame:
    """One row per tap and setting: accuracy and log-loss on `read_on` of heads fitted on `fit_on`.

    `options`: classes, memory (bytes), device. Taps of one width are fitted together, as one batched problem.
    """
    cells = [(level, tap) for tap in by_width(source, level, read_on, taps)]
    predictor = fit(evaluator, source.fitted(evaluator["kind"], cells, fit_on, 1), [seed], **options)
    read = source.plain(cells, [read_on], 1)
    found = judge(predictor, read, options["classes"], evaluator["average"], options["device"])
    right, loss = found.accuracy.mean((0, 1)), found.nll.mean((0, 1))  # (C, H)
    return pd.DataFrame(
        {"tap": tap, "level": level, **setting, "accuracy": float(right[i, j]), "nll": float(loss[i, j])}
        for i, (_, tap) in enumerate(cells)
        for j, setting in enumerate(predictor.settings)
    )


def by_width(source: Source, level: str, split: str, taps: Sequence[str]) -> list[str]:
    """Taps of equal width side by side."""
    found = source.table([(level, tap) for tap in taps], [split], "identity")
    return [tap for _, tap in sorted(zip(found.widths, taps, strict=True), key=lambda pair: pair[0])]


def best_cell(grid: pd.DataFrame) -> dict[str, Any]:
    """The cell and setting of the best accuracy, of equals the one of the least log-loss; beside it the runner-up, the
    best of another cell.
    """
    ranked = grid.sort_values(["accuracy", "nll"], ascending=[False, True], kind="stable")
    best, *others = map(as_choice, ranked.drop_duplicates(["tap", "level"]).head(2).to_dict("records"))
    return {**best, "runner_up": others[0] if others else None}


def as_choice(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the grid, its setting by itself."""
    known = ("tap", "level", "accuracy", "nll", "sigma", "log_snr")
    setting = {key: value for key, value in row.items() if key not in known}
    return {key: row[key] for key in known if key in row} | {"setting": setting}


class Outcome(NamedTuple):
    """What an evaluator has found, in its best setting."""

    setting: dict[str, float]
    accuracies: list[float]  # of each seed and judged copy
    top5: list[float] | None  # where there are many classes
    confusion: list[list[int]]  # true classes downwards

    def rows(self, name: str, common: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of results: accuracy, and that of the five likeliest."""
        setting = ", ".join(f"{key}={value:g}" for key, value in self.setting.items())
        known = {**common, "setting": setting, "seeds": len(self.accuracies)}
        rows = [{**known, "evaluator": name, **summed(self.accuracies)}]
        return rows + ([{**known, "evaluator": f"{name}_top5", **summed(self.top5)}] if self.top5 else [])


def summed(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and standard deviation; none of a single one."""
    return {"value": statistics.mean(values), "spread": statistics.stdev(values) if len(values) > 1 else None}


def evaluate(
    evaluator: dict[str, Any],
    source: Source,
    cells: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    fit_on: Sequence[str],
    read_on: str,
    setting: dict[str, float] | None = None,
    **options: Any,
) -> Outcome:
    """One evaluator of some cells as one, fitted on the splits `fit_on` and read on `read_on`.

    `setting`, where it is known, takes the place of the settings to try. Where several are left, the best on what it is
    read on is taken: so this is only to be asked of `select`, or of `test` with one setting.
    """
    known = evaluator | {key: [value] for key, value in (setting or {}).items()}
    fitted = [table.joined() for table in source.fitted(evaluator["kind"], cells, fit_on, len(seeds))]
    read = [table.joined() for table in source.plain(cells, [read_on], len(seeds))]
    predictor = fit(known, fitted, seeds, **options)
    found = judge(predictor, read, options["classes"], evaluator["average"], options["device"], confusion=True)
    best = best_setting(found)
    accuracies = found.accuracy[..., 0, best].flatten().tolist()
    top5 = found.top5[..., 0, best].flatten().tolist() if options["classes"] >= MANY else None
    return Outcome(predictor.settings[best], accuracies, top5, found.confusion[0, best].tolist())


def only_setting(evaluator: dict[str, Any]) -> dict[str, float] | None:
    """The setting of an evaluator's config that leaves nothing to choose; None where there are several."""
    name = SETTINGS[evaluator["kind"]]
    return {name: evaluator[name][0]} if len(evaluator[name]) == 1 else None


def best_setting(found: Judged) -> int:
    """Of the only cell: by the mean accuracy; of equals by the least log-loss, then the first."""
    right, loss = found.accuracy.mean((0, 1))[0].tolist(), found.nll.mean((0, 1))[0].tolist()
    return max(range(len(right)), key=lambda i: (right[i], -loss[i], -i))


def refuse_missing_classes(labels: dict[str, np.ndarray], names: Sequence[str]) -> None:
    """Raises UserError for a class that a split has no image of: its accuracy would say nothing."""
    for split, found in labels.items():
        missing = sorted(set(range(len(names))) - set(found.tolist()))
        if missing:
            shown = ", ".join(str(names[i]) for i in missing[:5])
            raise UserError(f"{split} has no image of {shown}: give it more images (datasets: split, per_class)")
