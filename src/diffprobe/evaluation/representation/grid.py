"""The grid over layer and noise, its best cell, and one evaluator at a cell.

The grid is scored by one evaluator of the probe, `probe.scorer` or the first that can (`Probe.scoring`),
with the first seed: fitted on `train`, scored on `select`; or on train + select and `test`, where the config says so.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from diffprobe.config.evaluators import Evaluator, FewLabels
from diffprobe.evaluation.representation.evaluators import TOP5_FROM, ProbeScores, fit, score
from diffprobe.evaluation.representation.fewshot import drawn
from diffprobe.evaluation.representation.predictors import Setting
from diffprobe.evaluation.representation.table import StoredFeatures, Table
from diffprobe.runtime.errors import UserError

Row = dict[str, Any]  # of a table of results, by column
OF_CELL = ("tap", "level", "accuracy", "nll", "sigma", "log_snr")  # columns of the grid; the others are settings


@dataclass(frozen=True)
class ProbeData:
    """Stored features, and what fitting on them needs: the number of classes, memory and device."""

    features: StoredFeatures
    classes: int
    memory: float  # bytes of features held at a time
    device: torch.device


def score_level(
    data: ProbeData,
    level: str,
    taps: Sequence[str],
    evaluator: Evaluator,
    seed: int,
    fit_on: Sequence[str],
    score_on: str,
) -> pd.DataFrame:
    """One row per tap and setting: accuracy and log-loss on `score_on` of predictors fitted on the splits `fit_on`."""
    # Taps of one width are fitted as one batched problem, so they go side by side.
    widths = data.features.table([(level, tap) for tap in taps], [score_on], "identity").widths
    cells = [(level, tap) for _, tap in sorted(zip(widths, taps, strict=True), key=lambda pair: pair[0])]
    tables = seen(evaluator, data.features.training_tables(evaluator.fitted_on, cells, fit_on, 1))
    predictor = fit(evaluator, tables, [seed], data.classes, data.memory, data.device)
    queries = seen(evaluator, data.features.plain_tables(cells, [score_on], 1))
    scores = score(predictor, queries, data.classes, evaluator.average, data.device)
    accuracy, nll = scores.accuracy.mean((0, 1)), scores.nll.mean((0, 1))  # (C, H)
    return pd.DataFrame(
        {"tap": tap, "level": level, **setting, "accuracy": float(accuracy[i, j]), "nll": float(nll[i, j])}
        for i, (_, tap) in enumerate(cells)
        for j, setting in enumerate(predictor.settings)
    )


def seen(evaluator: Evaluator, tables: Sequence[Table]) -> list[Table]:
    """The tables as the evaluator sees them."""
    return [table.normalised() for table in tables] if evaluator.normalise else list(tables)


def best_cell(grid: pd.DataFrame) -> Row:
    """The cell and setting of the highest accuracy, ties broken by log-loss, and the best of another cell.

    Raises UserError where all heads have diverged.
    """
    grid = grid[np.isfinite(grid["nll"])]
    if grid.empty:
        raise UserError("every head has diverged; lower its `lr`")
    # Accuracies of a few thousand images tie often; a stable sort then keeps the order of the grid.
    ranked = grid.sort_values(["accuracy", "nll"], ascending=[False, True], kind="stable")
    choices = [
        {key: finite(row[key]) for key in OF_CELL if key in row}
        | {"setting": {key: value for key, value in row.items() if key not in OF_CELL}}
        for row in ranked.drop_duplicates(["tap", "level"]).head(2).to_dict("records")
    ]
    return {**choices[0], "runner_up": choices[1] if len(choices) > 1 else None}


def finite(value: Any) -> Any:
    """A value for JSON, where the log-SNR of clean images is null."""
    return None if value == math.inf else value


class Evaluation(NamedTuple):
    """The scores of an evaluator in its best setting."""

    setting: Setting
    accuracies: list[float]  # of each seed and scored copy
    top5: list[float] | None  # where there are many classes
    confusion: list[list[int]]  # rows are true classes
    labels_per_class: int | None = None  # that it was fitted with; None: all

    def rows(self, name: str, common: Mapping[str, Any]) -> list[Row]:
        """Rows of results: accuracy, and top-5 accuracy."""
        setting = ", ".join(f"{key}={value:g}" for key, value in self.setting.items())
        columns = {**common, "setting": setting, "seeds": len(self.accuracies)}
        if self.labels_per_class is not None:
            name, columns["labels_per_class"] = f"{name}_{self.labels_per_class}", self.labels_per_class
        rows = [{**columns, "evaluator": name, **mean_and_spread(self.accuracies)}]
        return rows + ([{**columns, "evaluator": f"{name}_top5", **mean_and_spread(self.top5)}] if self.top5 else [])


def result_rows(
    name: str, evaluations: Sequence[Evaluation], cells: Sequence[Mapping[str, Any]], common: Mapping[str, Any]
) -> list[Row]:
    """Rows of an evaluator, whose evaluations, one or several of each cell, have the columns `cells` of their own.

    Where it was scored at several levels, the mean over them stands in a row of its own, without a level.
    """
    each = [cell for cell in cells for _ in range(len(evaluations) // len(cells))]
    rows = [row for one, cell in zip(evaluations, each, strict=True) for row in one.rows(name, {**common, **cell})]
    if len(cells) > 1:
        means = [statistics.mean(each) for each in zip(*(one.accuracies for one in evaluations), strict=True)]
        columns = {**common, "tap": cells[0]["tap"], "seeds": len(means)}
        rows.append({**columns, "evaluator": f"{name}_mean", **mean_and_spread(means)})
    return rows


def mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and standard deviation; None for a single value."""
    return {"value": statistics.mean(values), "spread": statistics.stdev(values) if len(values) > 1 else None}


def evaluate(
    data: ProbeData,
    evaluator: Evaluator,
    cells: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    fit_on: Sequence[str],
    score_on: str,
    settings: Sequence[Setting] | None = None,
) -> list[Evaluation]:
    """Fit one evaluator on the splits `fit_on`, its cells joined into one vector, and score it on `score_on`. With
    `levels` there is an evaluation of each cell, by a fit of its own or, where the kind says so, by a joint one; with
    few labels there is one for each number of them.

    `settings`, one of each evaluation, replace those to try. Where several are left, the best on `score_on` is taken:
    so score on `select`, or on `test` with a single setting. An evaluator without seeds is fitted once where all seeds
    share their features.
    """
    apart = evaluator.levels is not None and not evaluator.joint
    fits = [[cell] for cell in cells] if apart else [cells]
    evaluations: list[Evaluation] = []
    for i, (each, few) in enumerate(product(fits, evaluator.few_labels)):
        setting = settings[i] if settings else None
        evaluations += evaluate_fit(data, evaluator, each, seeds, fit_on, score_on, setting, few)
    return evaluations


def evaluate_fit(
    data: ProbeData,
    evaluator: Evaluator,
    cells: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    fit_on: Sequence[str],
    score_on: str,
    setting: Setting | None,
    few: FewLabels | None,
) -> list[Evaluation]:
    """One fit, and its evaluation of each cell of a joint evaluator, or of all cells as one."""
    fit_on, evaluator, memory = evaluator.fit_splits or fit_on, evaluator.head, data.memory
    if setting:  # chosen before: a list of one leaves nothing to choose on `score_on`
        evaluator = evaluator.model_copy(update={key: [value] for key, value in setting.items()})
    stored, n = data.features, len(seeds)
    tables = seen(evaluator, stored.training_tables(evaluator.fitted_on, cells, fit_on, n))
    queries = seen(evaluator, stored.plain_tables(cells, [score_on], n))
    if not evaluator.joint:
        tables, queries = [table.joined() for table in tables], [query.joined() for query in queries]
    if few:  # repeats take the place of the seeds, whose noise they see in turn
        memory /= 2  # the tables that images are drawn from hold the other half
        tables = drawn(tables, *few, data.classes, memory)
        queries, seeds = [queries[repeat % n] for repeat in range(few.repeats)], range(few.repeats)
    if not evaluator.seeded and len({(t.key, q.key) for t, q in zip(tables, queries, strict=True)}) == 1:
        tables, queries, seeds = tables[:1], queries[:1], seeds[:1]
    predictor = fit(evaluator, tables, seeds, data.classes, memory, data.device)
    scores = score(predictor, queries, data.classes, evaluator.average, data.device)
    return evaluations(scores, predictor.settings, data.classes, few.per_class if few else None)


def evaluations(
    scores: ProbeScores, settings: Sequence[Setting], classes: int, per_class: int | None = None
) -> list[Evaluation]:
    """Of each cell, in the setting that scores best over all of them; `per_class`: labels, where there are few.

    Raises UserError where heads have diverged in each of the settings.
    """
    best = best_setting(scores)
    if not scores.nll[..., best].isfinite().all():
        tried = ", ".join(f"{key} {value:g}" for key, value in settings[best].items())
        raise UserError(f"heads have diverged at {tried or 'its settings'}; lower its `lr`")
    return [
        Evaluation(
            settings[best],
            scores.accuracy[..., cell, best].flatten().tolist(),
            scores.top5[..., cell, best].flatten().tolist() if classes >= TOP5_FROM else None,
            scores.confusion[cell, best].tolist(),
            per_class,
        )
        for cell in range(len(scores.confusion))
    ]


def best_setting(scores: ProbeScores) -> int:
    """The setting of the highest mean accuracy over cells; ties go to the lower log-loss, then to the first.

    One in which a head has diverged comes last.
    """
    means, losses = (each.mean((0, 1)).mean(0) for each in (scores.accuracy, scores.nll))  # (H,)
    accuracy, nll = means.where(losses.isfinite(), -1).tolist(), losses.nan_to_num(torch.inf).tolist()
    return max(range(len(accuracy)), key=lambda i: (accuracy[i], -nll[i], -i))


def refuse_missing_classes(labels: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    """Raises UserError for a class without an image in a split: an accuracy there would be meaningless."""
    for split, values in labels.items():
        missing = sorted(set(range(len(names))) - set(values.tolist()))
        if missing:
            shown = ", ".join(str(names[i]) for i in missing[:5])
            raise UserError(f"{split} has no image of {shown}: give it more images (datasets: split, per_class)")
