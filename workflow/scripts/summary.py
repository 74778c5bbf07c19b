"""The tables: all metrics, the main results, the best samples beside the best features, and repeats by other seeds.

Config: `plan.arguments.SummaryArgument`, whose `probed` and `histories` are in the order of the inputs choice.N and
history.N. Inputs: results.N too.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.plan.arguments import SummaryArgument
from diffprobe.reporting.repeats import loss_row, repeats
from diffprobe.reporting.tables import best, results, summary
from diffprobe.runtime.files import atomic
from diffprobe.runtime.results import read_lines, read_result, read_rows


def main(job: Job) -> None:
    argument = SummaryArgument.model_validate(job.config)
    rows = [row for path in job.group("results") for row in read_rows(path)]
    probed = dict(zip(argument.probed, [read_result(path, dict) for path in job.group("choice")], strict=True))
    choices = {name: probed.get(name) for name in argument.experiments}
    tables = {"summary": summary(rows), "table": results(rows, choices), "best": best(rows, choices)}
    if argument.repeats:
        histories = zip(argument.histories, job.group("history"), strict=True)
        losses = [loss_row(about, read_lines(path)) for about, path in histories]
        tables["repeats"] = repeats([*rows, *losses], dict(argument.repeats))
    for output, table in tables.items():
        with atomic(job.output(output)) as partial:
            table.to_csv(partial, index=False)


if __name__ == "__main__":
    run(main)
