"""Check samples for memorisation: the training images nearest to each, and the ratio of the two smallest distances.

Config: `plan.arguments.NearestArgument`. Inputs: images, and samples; without samples, the dataset's own
`test` images are checked, as a baseline. Outputs: rows; optionally pairs, for the plot.
Option: autosave, in seconds.
"""

from collections.abc import Iterator
from typing import Any

from diffprobe.runtime.job import Job, run

import numpy as np
import torch

from diffprobe.config.names import figure_name
from diffprobe.data.hdf5 import CHUNK
from diffprobe.data.images import Few, describe
from diffprobe.data.imagesets import ImageSet, batches, open_images
from diffprobe.evaluation.generation.nearest import MEMORISED, nearest, ratios
from diffprobe.plan.arguments import NearestArgument
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, write_json


def main(job: Job) -> None:
    argument = NearestArgument.model_validate(job.config)
    training, query_set = open_sets(job, argument)
    queries = query_set.read(0, min(argument.images, query_set.n))  # uint8 (M, H, W, C)
    job.progress.start(training.n, "images")
    k = min(max(argument.neighbours, 2), training.n)  # the ratio needs two
    with job.autosaved("rows"):
        distances, rows = nearest(torch.from_numpy(queries), reporting_batches(job, training), k, job.device)
        ratio = ratios(distances).numpy()  # (M,)
        rows_of_results = figure_rows("+".join(argument.splits), ratio)
        write_json(job.output("rows"), {"rows": [argument.row | row for row in rows_of_results]})
        if "pairs" in job.outputs:
            write_pairs(job, argument, training, queries, ratio, distances.numpy(), rows)
    about = {"asked": query_set.identity, "training": training.identity, "training_images": training.n}
    job.write_receipt(images=len(queries), memorised_below=MEMORISED, **about)


def write_pairs(
    job: Job,
    argument: NearestArgument,
    training: ImageSet,
    queries: np.ndarray,
    ratio: np.ndarray,
    distances: np.ndarray,
    rows: torch.Tensor,
) -> None:
    """Write the images with the smallest ratios (M,) and their nearest neighbours, by rows (M, k), for the plot."""
    shown = np.argsort(ratio, kind="stable")[: argument.shown]  # (n,)
    nearest_rows = rows[shown, : argument.neighbours].tolist()  # (n, neighbours)
    nearest_images = [np.concatenate([training.read(row, row + 1) for row in near]) for near in nearest_rows]
    with atomic(job.output("pairs")) as partial:
        np.savez(
            partial,
            kind="generated" if "samples" in job.inputs else "test images",
            queries=queries[shown],
            found=np.stack(nearest_images),
            ratios=ratio[shown],
            distances=distances[shown, : argument.neighbours] / queries[0].size ** 0.5,  # root mean square
        )


def open_sets(job: Job, argument: NearestArgument) -> tuple[ImageSet, ImageSet]:
    """The training images and the queries. Raises UserError if there is no second neighbour."""
    store = job.input("images")
    channels = describe(store)["channels"]
    few = Few(*argument.few) if argument.few else None
    training = open_images(store, splits=argument.splits, few=few, channels=channels)
    if training.n < 2:
        raise UserError(
            f"{training.origin}: expected at least 2 images to compare with, but there is {training.n}; add images"
        )
    if "samples" in job.inputs:
        return training, open_images(job.input("samples"), channels=channels)
    return training, open_images(store, splits=["test"], channels=channels)


def reporting_batches(job: Job, training: ImageSet) -> Iterator[np.ndarray]:
    """All training images in batches uint8 (B, H, W, C), reporting progress."""
    done = 0
    for batch in batches(training, CHUNK):
        yield batch
        done += len(batch)
        job.progress.update(done)


def figure_rows(splits: str, ratio: np.ndarray) -> list[dict[str, Any]]:
    """Rows of results for ratios (M,): the median, and the fraction below MEMORISED."""
    common = {"split": splits, "images": len(ratio), "extractor": "pixels"}
    values = {"nearest_ratio": np.median(ratio), "memorised": np.mean(ratio < MEMORISED)}
    return [
        common | {"evaluator": figure_name(figure, len(ratio), "pixels"), "value": float(value)}
        for figure, value in values.items()
    ]


if __name__ == "__main__":
    run(main)
