"""The choice of an experiment: the checkpoint, layer and level with the best accuracy on `select`.

Inputs: select.0, select.1, ... of the checkpoints. Output: choice.
"""

from typing import NotRequired, TypedDict

from diffprobe.runtime.job import Job, run

from diffprobe.runtime.files import write_json
from diffprobe.runtime.results import read_result


class Ranked(TypedDict):
    """The keys of a recorded cell that decide the choice."""

    accuracy: float
    mean_accuracy: NotRequired[float]  # over seeds, of a checkpoint's best cell
    nll: float


def rank(cell: Ranked) -> tuple[float, float]:
    """Order by accuracy (mean over seeds where available); ties go to the lower log-loss."""
    return cell.get("mean_accuracy", cell["accuracy"]), -cell["nll"]


def main(job: Job) -> None:
    choices = [read_result(path, lambda select: select["choice"]) for path in job.group("select")]
    best = max(choices, key=rank)
    # The runner-up is another checkpoint's best cell, or the second cell of the best checkpoint.
    cells = [choice for choice in choices if choice is not best]
    if best["runner_up"]:
        cells.append(best["runner_up"] | {"kimg": best["kimg"]})
    runner_up = max(cells, key=rank, default=None)
    best["runner_up"] = runner_up and {key: value for key, value in runner_up.items() if key != "runner_up"}
    write_json(job.output("choice"), best)
    job.write_receipt()


if __name__ == "__main__":
    run(main)
