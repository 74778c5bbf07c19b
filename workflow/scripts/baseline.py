"""A baseline on raw pixels: logistic regression, with its penalty chosen on `select`, scored once on `test`.

Config: `plan.arguments.DatasetArgument`. Input: images. Output: rows.
"""

from pathlib import Path

from diffprobe.runtime.job import Job, run

import torch

from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.data import images
from diffprobe.evaluation.representation.evaluators import fit, score
from diffprobe.evaluation.representation.grid import best_setting
from diffprobe.evaluation.representation.table import Table, table_of
from diffprobe.plan.arguments import DatasetArgument
from diffprobe.runtime.files import write_json

STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1]  # L2 penalties per image
MEMORY = 2**31  # bytes of features held at a time


def pixels(path: Path, *splits: str) -> Table:
    """Images of some splits as features of one copy, uint8 (1, N, H*W*C)."""
    data = images.read(path, splits)
    return table_of(torch.from_numpy(data.images).flatten(1)[None], torch.from_numpy(data.labels))


def main(job: Job) -> None:
    argument = DatasetArgument.model_validate(job.config)
    path, classes = job.input("images"), len(images.describe(job.input("images"))["classes"])

    def accuracies(strengths: list[float], score_on: str, *fit_on: str) -> tuple[int, list[float]]:
        """The index of the best strength, and the accuracy of each."""
        probe = Logistic(kind="logistic", strength=strengths)
        predictor = fit(probe, [pixels(path, *fit_on)], [0], classes, MEMORY, job.device)
        scores = score(predictor, [pixels(path, score_on)], classes, True, job.device)
        return best_setting(scores), scores.accuracy[0, 0, 0].tolist()

    best, on_select = accuracies(STRENGTHS, "select", "train")
    strength = STRENGTHS[best]
    _, (accuracy,) = accuracies([strength], "test", "train", "select")
    row = {
        "dataset": argument.dataset,
        "evaluator": "pixels_logistic",
        "split": "test",
        "value": accuracy,
        "setting": f"strength={strength:g}",
    }
    write_json(job.output("rows"), {"rows": [row], "strength": strength, "select": on_select[best]})
    job.write_receipt(images=len(images.labels(path, "test")))


if __name__ == "__main__":
    run(main)
