"""The experiments on a dataset beside each other: a table of what each prefers, a table of each evaluator's best, a
figure and its data.

Config: `plan.arguments.ComparisonArgument`. Inputs: results.0, results.1, ... with rows of the experiments and of the
dataset; choice.0, choice.1, ... of the experiments; grid.0, grid.1, ... of all their checkpoints. Outputs: experiments,
evaluators, plot, data.
"""

from diffprobe.runtime.job import Job, run

import pandas as pd
from matplotlib.figure import Figure

from diffprobe.plan.arguments import ComparisonArgument
from diffprobe.reporting import comparison, comparison_plot
from diffprobe.reporting.comparison import Probed
from diffprobe.reporting.tables import summary
from diffprobe.runtime.files import atomic
from diffprobe.runtime.results import read_result, read_rows, refuse_changed


def main(job: Job) -> None:
    argument = ComparisonArgument.model_validate(job.config)
    frame = summary(row for path in job.group("results") for row in read_rows(path))
    probed = read_probed(job, argument)
    points = comparison.points(frame, probed)
    tables = {
        "experiments": comparison.experiments(frame, probed),
        "evaluators": comparison.evaluators(frame, probed),
        "data": points,
    }
    names = {one.name: f"{one.name}: {comparison.place_words(one.choice)}" for one in probed}
    split = comparison.split_words([one.choice for one in probed])
    figure: Figure = comparison_plot.comparison(points, names, split, argument.dataset, argument.dpi)
    for name, table in tables.items():
        with atomic(job.output(name)) as partial:
            table.to_csv(partial, index=False)
    with atomic(job.output("plot")) as partial:
        figure.savefig(partial)


def read_probed(job: Job, argument: ComparisonArgument) -> list[Probed]:
    """The experiments with their choices, and the grids of the checkpoints that these name."""
    probed, grids = [], iter(job.group("grid"))
    for one, path in zip(argument.experiments, job.group("choice"), strict=True):
        choice = read_result(path, dict)
        own = dict(zip(one.checkpoints, grids, strict=False))
        grid = own[choice["kimg"]]
        refuse_changed(grid)
        probed.append(Probed(one.name, choice, pd.read_csv(grid, dtype={"level": str}), one.taps))
    return probed


if __name__ == "__main__":
    run(main)
