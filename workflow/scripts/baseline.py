"""A baseline on raw pixels: logistic regression, with its penalty chosen on `select`, scored once on `test`.

Config: `plan.arguments.DatasetArgument`. Input: images. Output: rows. Option: autosave, in seconds. A killed job
resumes from the last saved iteration and gives the same accuracy.
"""

from pathlib import Path

from diffprobe.runtime.job import Job, run

import torch

from diffprobe.config.evaluators.logistic import Logistic
from diffprobe.data import images
from diffprobe.evaluation.representation.evaluators import score
from diffprobe.evaluation.representation.grid import best_setting
from diffprobe.evaluation.representation.logistic import fit_table
from diffprobe.evaluation.representation.predictors import PerSeed
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
    with job.autosaved("rows"):
        fit_and_score(job)


def fit_and_score(job: Job) -> None:
    argument = DatasetArgument.model_validate(job.config)
    path, classes = job.input("images"), len(images.describe(job.input("images"))["classes"])
    done, device = 0, job.device  # iterations of finished fits

    def accuracies(strengths: list[float], score_on: str, *fit_on: str) -> tuple[int, list[float]]:
        """The index of the best strength, and the accuracy of each."""
        nonlocal done
        probe, table = Logistic(kind="logistic", strength=strengths), pixels(path, *fit_on).within(MEMORY / 2)
        later = probe.iterations if score_on == "select" else 0  # of the fit that follows

        def report(iterations: int, most: int) -> None:
            if not job.progress.total:
                job.progress.start(most + later, "iterations", iterations)
            job.progress.total = done + most + later  # fits that converge early need fewer
            job.progress.update(done + iterations, f"scored on {score_on}")

        classifier = fit_table(probe, table, classes, device, report)
        done = job.progress.done
        scores = score(PerSeed([classifier]), [pixels(path, score_on)], classes, True, device)
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
