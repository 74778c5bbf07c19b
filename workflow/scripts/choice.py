"""The choice of an experiment: the checkpoint, layer and level with the best accuracy on `select`.

Inputs: select.0, select.1, ... of the checkpoints. Output: choice.
"""

from typing import Any

from diffprobe.runtime.files import read_json, write_json
from diffprobe.runtime.job import Job, run


def rank(choice: dict[str, Any]) -> tuple[float, float]:
    """By accuracy, that of a checkpoint's best cell as the mean over seeds; ties go to the lower log-loss."""
    return choice.get("mean_accuracy", choice["accuracy"]), -choice["nll"]


def main(job: Job) -> None:
    choices = [read_json(path)["choice"] for path in job.group("select")]
    best = max(choices, key=rank)
    cells = [choice for choice in choices if choice is not best]
    if best["runner_up"]:
        cells.append(best["runner_up"] | {"kimg": best["kimg"]})
    runner_up = max(cells, key=rank, default=None)
    best["runner_up"] = runner_up and {key: value for key, value in runner_up.items() if key != "runner_up"}
    write_json(job.output("choice"), best)
    job.write_receipt()


if __name__ == "__main__":
    run(main)
