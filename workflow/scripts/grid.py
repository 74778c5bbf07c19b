"""The layer x noise grid of one checkpoint, its best cell, and the scores of all evaluators at that cell.

Scores are on `select`, or on `test` as published.

Config: `plan.probe_arguments.GridArgument`. Inputs: images; store.0, store.1, ... (features of the levels).
Outputs: grid, select. Option: autosave, in seconds.
"""

from collections.abc import Sequence

from diffprobe.runtime.job import Job, run

import pandas as pd

from diffprobe.config.names import level_title
from diffprobe.data import images
from diffprobe.evaluation.representation.chunks import StoredLevel, stored_levels
from diffprobe.evaluation.representation.grid import (
    ProbeData,
    Row,
    best_cell,
    evaluate,
    refuse_missing_classes,
    result_rows,
    score_level,
)
from diffprobe.evaluation.representation.table import StoredFeatures
from diffprobe.plan.probe_arguments import Choice, EvaluatorArgument, GridArgument
from diffprobe.runtime.files import atomic, write_json


def main(job: Job) -> None:
    with job.autosaved("grid"):
        score_checkpoint(job)


def score_checkpoint(job: Job) -> None:
    argument, store = GridArgument.model_validate(job.config), job.input("images")
    labels = {split: images.labels(store, split) for split in (*argument.fit, argument.read)}
    names = images.describe(store)["classes"]
    refuse_missing_classes(labels, names)
    levels = sorted(level for folder in job.group("store") for level in stored_levels(folder))  # by increasing noise
    folders = {level.name: level.folder for level in levels}
    features = StoredFeatures(folders, labels, bool(argument.augmented))
    data = ProbeData(features, len(names), argument.memory, job.device)
    evaluators = argument.heads
    scorer = next(evaluator for evaluator in evaluators if evaluator.name == argument.scorer)
    grid = score_cells(job, argument, data, levels, scorer)
    choice = {**argument.row, "selection": argument.selection, "scorer": argument.scorer, **best_cell(grid)}
    rows = evaluate_choice(argument, data, Choice.model_validate(choice), evaluators)
    # Checkpoints are compared by the mean over all seeds; the grid uses only the first.
    choice["mean_accuracy"] = next(row["value"] for row in rows if row["evaluator"] == argument.scorer)
    with atomic(job.output("grid")) as partial:
        grid.to_csv(partial, index=False)
    write_json(job.output("select"), {"rows": rows, "choice": choice})
    job.write_receipt(cells=job.progress.done, classes=len(names))


def score_cells(
    job: Job, argument: GridArgument, data: ProbeData, levels: Sequence[StoredLevel], scorer: EvaluatorArgument
) -> pd.DataFrame:
    """Score every tap, level and setting, sorted by tap in order of computation, then by increasing noise."""
    seed = argument.seeds[0]
    job.progress.start(sum(len(argument.taps_at(level.sigma)) for level in levels), "cells")
    tables = []
    for level in levels:
        taps = argument.taps_at(level.sigma)
        scores = score_level(data, level.name, taps, scorer.settings, seed, argument.fit, argument.read)
        tables.append(scores.assign(sigma=level.sigma, log_snr=level.log_snr))
        job.progress.update(job.progress.done + len(taps), level_title(level.sigma))
    grid = pd.concat(tables)
    # A stable sort keeps levels by increasing noise within each tap.
    return grid.sort_values("tap", key=lambda names: names.map(argument.taps.index), kind="stable", ignore_index=True)


def evaluate_choice(
    argument: GridArgument, data: ProbeData, choice: Choice, evaluators: Sequence[EvaluatorArgument]
) -> list[Row]:
    """Rows of every evaluator at the best cell. Evaluators on tokens are left out: those features follow the choice."""
    common = {**argument.row, **argument.about, "split": argument.split}
    rows: list[Row] = []
    for evaluator in evaluators:
        if evaluator.selection.tokens:
            continue
        cells = evaluator.selection.cells(choice.cell)
        settings = [choice.setting] if evaluator.name == argument.scorer else None
        scores = evaluate(data, evaluator.settings, cells, argument.seeds, argument.fit, argument.read, settings)
        rows += result_rows(evaluator.name, scores, choice.columns(evaluator.selection), common)
    return rows


if __name__ == "__main__":
    run(main)
