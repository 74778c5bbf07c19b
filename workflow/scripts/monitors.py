"""Label-free figures of every cell of one checkpoint's grid, and rows of those of its best cell.

Config: `plan.probe_arguments.MonitorsArgument`. Inputs: store, the features of a subset; select; foreign.NAME.
Outputs: monitors, rows. Option: autosave, in seconds.
"""

from collections.abc import Mapping
from functools import partial

from diffprobe.runtime.job import Job, run

import pandas as pd
import torch
from torch import Tensor

from diffprobe.config.names import level_title
from diffprobe.evaluation.representation.cells import StoredCell, stored_cells
from diffprobe.evaluation.representation.monitors import CellFeatures, measure
from diffprobe.plan.probe_arguments import Choice, MonitorsArgument
from diffprobe.runtime import autosave
from diffprobe.runtime.files import atomic, write_json
from diffprobe.runtime.results import read_arrays, read_result


def main(job: Job) -> None:
    argument = MonitorsArgument.model_validate(job.config)
    best = read_result(job.input("select"), lambda select: Choice.model_validate(select["choice"]))
    encoders = {name: torch.from_numpy(read_arrays(path)["features"]) for name, path in job.named("foreign").items()}
    encoders = {name: features.to(job.device) for name, features in encoders.items()}
    grid = stored_cells(job.input("store"), argument, argument.row["split"])
    job.progress.start(len(grid), "cells")
    images = grid[0].array.shape[1]
    with job.autosaved("monitors"):
        lines = []
        figures = autosave.each(grid, partial(figures_of, argument, encoders, job.device))
        for cell, values in zip(grid, figures, strict=True):
            level = {"level": cell.level.name, "sigma": cell.level.sigma, "log_snr": cell.level.log_snr}
            lines.append({"tap": cell.tap, **level, **{name: value.item() for name, value in values.items()}})
            job.progress.update(job.progress.done + 1, level_title(cell.level.sigma))
        write(job, argument, best, pd.DataFrame(lines), images)
    job.write_receipt(cells=len(grid), images=images)


def figures_of(
    argument: MonitorsArgument, encoders: Mapping[str, Tensor], device: torch.device, cell: StoredCell
) -> dict[str, Tensor]:
    """All figures of one cell, float64 () each."""
    copies = cell.copies().to(device)  # (P, n, D)
    values: dict[str, float] = {}
    for monitor in argument.monitors:
        foreign = encoders[monitor.encoder] if monitor.encoder else None
        values |= measure(monitor, CellFeatures(copies, foreign))
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def write(job: Job, argument: MonitorsArgument, best: Choice, frame: pd.DataFrame, images: int) -> None:
    figures = [figure for monitor in argument.monitors for figure in monitor.figures]
    frame = frame.reindex(columns=["tap", "level", "sigma", "log_snr", *figures])
    common = {**argument.row, **argument.about, "tap": best.tap, "sigma": best.sigma, "images": images}
    values = frame.set_index(["level", "tap"]).loc[best.cell, figures].dropna().to_dict()
    with atomic(job.output("monitors")) as path:
        frame.to_csv(path, index=False)
    write_json(job.output("rows"), {"rows": [{**common, "evaluator": name, "value": values[name]} for name in values]})


if __name__ == "__main__":
    run(main)
