"""`test`, read once: heads at the chosen cell, refitted on train + select, fresh noise for each seed."""

import statistics

import numpy as np

from diffprobe.data import images
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation import model
from diffprobe.evaluation.features import extract
from diffprobe.evaluation.inputs import open_inputs
from diffprobe.evaluation.probes import neighbours_accuracy, probe
from diffprobe.runtime.files import read_json, write_json
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.keyed import Key


def main(job: Job) -> None:
    device, config = job.device, job.config
    choice = read_json(job.input("choice"))
    checkpoints = dict(zip(config["checkpoints"], job.group("weights"), strict=True))
    trained = model.load(checkpoints[choice["kimg"]], device, weights=config["weights"]["name"])
    network, process = trained.network, trained.process
    labels = {split: images.labels(job.input("images"), split) for split in SPLITS}
    classes = len(images.describe(job.input("images"))["classes"])
    level, tap, draws = process.level(choice["sigma"]), choice["tap"], config["draws"]

    data = open_inputs(job.input("data"), SPLITS, device, trained.latents)

    def features(split: str, seed: int) -> np.ndarray:  # (draws, N, D)
        # A purpose of its own: never the noise that the choice was made with, and other noise for each seed.
        noise, drawn = (Key(config["noise_seed"], f"test/{seed}/{name}") for name in (level.name, "posterior"))
        options = {"level": level, "taps": [tap], "key": noise, "posterior": drawn}
        options |= {"batch": config["batch"], "device": device}
        passes = [extract(network, process, data[split], draw=draw, **options) for draw in range(draws)]
        return np.stack([np.concatenate([found[tap].cpu().numpy() for _, found in one]) for one in passes])

    linear, nearest = [], []
    job.progress.start(len(config["seeds"]), "seeds")
    for done, seed in enumerate(config["seeds"], start=1):
        found = {split: features(split, seed) for split in SPLITS}
        fit = {"fit": ["train", "select"], "read": "test", "device": device}
        linear.append(probe(found, labels, classes, [seed], config["linear"], **fit)[0])
        nearest.append(neighbours_accuracy(found, labels, classes, config["neighbours"], **fit))
        job.progress.update(done)
    common = {**config["row"], "split": "test", "kimg": choice["kimg"], "tap": tap, "sigma": choice["sigma"]}
    rows = [
        {
            **common,
            "evaluator": name,
            "value": statistics.mean(values),
            "spread": spread(values),
            "seeds": len(values),
        }
        for name, values in (("linear", linear), ("knn", nearest))
    ]
    write_json(job.output("rows"), {"rows": rows})
    job.write_receipt(images=len(labels["test"]), accuracies={"linear": linear, "knn": nearest})


def spread(values: list[float]) -> float | None:
    """Standard deviation over seeds; none for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None


if __name__ == "__main__":
    run(main)
