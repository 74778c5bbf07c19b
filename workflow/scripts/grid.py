"""The layer x noise grid of one checkpoint, scored on `select`; the best cell's linear probe and kNN there."""

import zarr

from diffprobe.data import images
from diffprobe.evaluation.features import load
from diffprobe.evaluation.probes import best_cell, neighbours_accuracy, probe, score_grid
from diffprobe.runtime.files import atomic, write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config, device = job.config, job.device
    store = job.input("store").parent
    levels = zarr.open_group(str(store), mode="r").attrs["levels"]
    labels = {split: images.labels(job.input("images"), split) for split in ("train", "select")}
    classes = len(images.describe(job.input("images"))["classes"])

    def features(level: str, tap: str) -> dict:
        return {split: load(store, level, split, tap) for split in ("train", "select")}

    cells = [(tap, level) for tap in config["taps"] for level in levels]
    job.progress.start(len(cells), "cells")
    grid = score_grid(
        cells, features, labels, classes, config["seeds"][0], config["linear"], device, job.progress.update
    )
    grid["sigma"] = [levels[level]["sigma"] for level in grid["level"]]
    grid["log_snr"] = [levels[level]["log_snr"] for level in grid["level"]]
    choice = {**config["row"], **best_cell(grid)}
    best = features(choice["level"], choice["tap"])
    on_select = {"fit": ["train"], "read": "select", "device": device}
    accuracy, spread = probe(best, labels, classes, config["seeds"], config["linear"], **on_select)
    choice["mean_accuracy"] = accuracy  # over the seeds: what checkpoints are compared by
    common = {**config["row"], "split": "select", "tap": choice["tap"], "sigma": choice["sigma"]}
    nearest = neighbours_accuracy(best, labels, classes, config["neighbours"], **on_select)
    rows = [
        {**common, "evaluator": "linear", "value": accuracy, "spread": spread, "seeds": len(config["seeds"])},
        {**common, "evaluator": "knn", "value": nearest},
    ]
    with atomic(job.output("grid")) as partial:
        grid.to_csv(partial, index=False)
    write_json(job.output("select"), {"rows": rows, "choice": choice})
    job.write_receipt(cells=len(cells), classes=classes)


if __name__ == "__main__":
    run(main)
