"""What raw pixels tell: logistic regression, its strength chosen on `select`, refitted, read once on `test`."""

from pathlib import Path

import torch

from diffprobe.data import images
from diffprobe.evaluation.representation.evaluators import fit, judge
from diffprobe.evaluation.representation.grid import best_setting
from diffprobe.evaluation.representation.table import Part, Table
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run

PROBE = {"kind": "logistic", "strength": [1e-4, 1e-3, 1e-2, 1e-1], "iterations": 200}
MEMORY = 2**31


def pixels(path: Path, *splits: str) -> Table:
    """Images of some splits as features, one copy: uint8 (1, N, H*W*C)."""
    data = images.read(path, splits)
    flat = data.images.reshape(1, len(data.images), -1)
    return Table([Part([flat], [None])], torch.from_numpy(data.labels), [flat.shape[2]])


def main(job: Job) -> None:
    path, classes = job.input("images"), len(images.describe(job.input("images"))["classes"])

    def accuracies(probe: dict, read: str, *splits: str) -> tuple[int, list[float]]:
        predictor = fit(probe, [pixels(path, *splits)], [0], classes, MEMORY, job.device)
        found = judge(predictor, [pixels(path, read)], classes, True, job.device)
        return best_setting(found), found.accuracy[0, 0, 0].tolist()

    best, on_select = accuracies(PROBE, "select", "train")
    strength = PROBE["strength"][best]
    _, (accuracy,) = accuracies(PROBE | {"strength": [strength]}, "test", "train", "select")
    row = {
        "dataset": job.config["dataset"],
        "evaluator": "pixels_logistic",
        "split": "test",
        "value": accuracy,
        "setting": f"strength={strength:g}",
    }
    write_json(job.output("rows"), {"rows": [row], "strength": strength, "select": on_select[best]})
    job.write_receipt(images=len(images.labels(path, "test")))


if __name__ == "__main__":
    run(main)
