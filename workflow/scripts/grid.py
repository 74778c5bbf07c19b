"""The layer x noise grid of one checkpoint, its best cell, and what every evaluator makes of that cell; on `select`, or
as published on `test`.
"""

from typing import Any

import pandas as pd

from diffprobe.data import images
from diffprobe.evaluation.representation.chunks import MARK
from diffprobe.evaluation.representation.grid import best_cell, evaluate, refuse_missing_classes, score_level
from diffprobe.evaluation.representation.selection import seen
from diffprobe.evaluation.representation.table import Source
from diffprobe.runtime.files import atomic, read_json, write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config, store = job.config, job.input("images")
    labels = {split: images.labels(store, split) for split in (*config["fit"], config["read"])}
    names = images.describe(store)["classes"]
    refuse_missing_classes(labels, names)
    marks = {path: read_json(path / MARK)["levels"] for path in job.group("store")}
    folders = {level: path for path, levels in marks.items() for level in levels}
    levels = {level: about for levels in marks.values() for level, about in levels.items()}
    source = Source(folders, labels, bool(config["augmented"]))
    options = {"fit_on": config["fit"], "read_on": config["read"], "classes": len(names), "memory": config["memory"]}
    options["device"] = job.device
    grid = scored(job, source, levels, options)
    known = {**config["row"], "selection": config["selection"], "scorer": config["scorer"]}
    choice = known | best_cell(grid)
    rows = judged(config, source, choice, options)
    own = [row["value"] for row in rows if row["evaluator"] == config["scorer"]]
    choice["mean_accuracy"] = own[0]  # over the seeds: what checkpoints are compared by
    with atomic(job.output("grid")) as partial:
        grid.to_csv(partial, index=False)
    write_json(job.output("select"), {"rows": rows, "choice": choice})
    job.write_receipt(cells=len(levels) * len(config["taps"]), classes=len(names))


def scored(job: Job, source: Source, levels: dict[str, dict], options: dict[str, Any]) -> pd.DataFrame:
    """Every tap, level and setting, by tap in the order of computation, then from the least noise up."""
    taps, scorer = job.config["taps"], job.config["evaluators"][job.config["scorer"]]
    job.progress.start(len(levels) * len(taps), "cells")
    found = []
    for level in sorted(levels, key=lambda name: levels[name]["sigma"]):
        found.append(
            score_level(source, level, taps, scorer, job.config["seeds"][0], **options).assign(**levels[level])
        )
        job.progress.update(job.progress.done + len(taps), f"sigma {level}")
    whole = pd.concat(found)
    return whole.sort_values("tap", key=lambda names: names.map(taps.index), kind="stable", ignore_index=True)


def judged(config: dict, source: Source, choice: dict, options: dict[str, Any]) -> list[dict]:
    """What every evaluator makes of the best cell. Tokens are only computed for the chosen one."""
    common = {**config["row"], **config["about"], "split": config["split"]}
    common |= {"tap": choice["tap"], "sigma": choice["sigma"]}
    rows = []
    for name, evaluator in config["evaluators"].items():
        if evaluator["tokens"]:
            continue
        cells = seen(evaluator, (choice["level"], choice["tap"]))
        seeds = config["seeds"] if evaluator["kind"] == "linear" else config["seeds"][:1]  # others know no seed
        setting = choice["setting"] if name == config["scorer"] else None
        rows += evaluate(evaluator, source, cells, seeds, setting=setting, **options).rows(name, common)
    return rows


if __name__ == "__main__":
    run(main)
