"""Whether samples are copies: the training images nearest to each, and how much nearer the first is than the second.

Config: row, images, shown, neighbours, splits. Inputs: images, and samples; without samples the figures are those of
the dataset's own `test` images, which are no copies. Outputs: rows, and pairs for the plot where asked.
"""

from collections.abc import Iterator

import numpy as np
import torch

from diffprobe.config.names import figure_name
from diffprobe.data.hdf5 import CHUNK
from diffprobe.data.images import describe
from diffprobe.data.imagesets import ImageSet, batches, open_images
from diffprobe.evaluation.generation.nearest import MEMORISED, nearest, ratios
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config, (training, asked) = job.config, opened(job)
    queries = asked.read(0, min(config["images"], asked.n))  # uint8 (M, H, W, C)
    job.progress.start(training.n, "images")
    k = min(max(config["neighbours"], 2), training.n)
    distances, found = nearest(torch.from_numpy(queries), watched(job, training), k, job.device)
    ratio = ratios(distances).numpy()  # (M,)
    write_json(job.output("rows"), {"rows": figures(config, ratio)})
    if "pairs" in job.outputs:
        write_pairs(job, training, queries, ratio, distances.numpy(), found)
    about = {"asked": asked.identity, "training": training.identity, "training_images": training.n}
    job.write_receipt(images=len(queries), memorised_below=MEMORISED, **about)


def write_pairs(
    job: Job, training: ImageSet, queries: np.ndarray, ratio: np.ndarray, distances: np.ndarray, found: torch.Tensor
) -> None:
    """For the plot: the images of the smallest ratios (M,), and those nearest to each; `found` are rows (M, k)."""
    config = job.config
    shown = np.argsort(ratio, kind="stable")[: config["shown"]]  # (n,)
    near = found[shown, : config["neighbours"]].tolist()  # (n, neighbours)
    with atomic(job.output("pairs")) as partial:
        np.savez(
            partial,
            kind="generated" if "samples" in job.inputs else "test images",
            queries=queries[shown],
            found=np.stack([np.concatenate([training.read(row, row + 1) for row in rows]) for rows in near]),
            ratios=ratio[shown],
            distances=distances[shown, : config["neighbours"]] / queries[0].size ** 0.5,  # root mean square
        )


def opened(job: Job) -> tuple[ImageSet, ImageSet]:
    """The training images, and those to look for. UserError where there is no second nearest."""
    store = job.input("images")
    channels = describe(store)["channels"]
    training = open_images(store, splits=job.config["splits"], channels=channels)
    if training.n < 2:
        raise UserError(f"{training.origin}: a second nearest image needs at least 2, here is {training.n}: add images")
    if "samples" in job.inputs:
        return training, open_images(job.input("samples"), channels=channels)
    return training, open_images(store, splits=["test"], channels=channels)


def watched(job: Job, training: ImageSet) -> Iterator[np.ndarray]:
    """All training images in batches uint8 (B, H, W, C); the job's progress tells how many have been seen."""
    done = 0
    for batch in batches(training, CHUNK):
        yield batch
        done += len(batch)
        job.progress.update(done)


def figures(config: dict, ratio: np.ndarray) -> list[dict]:
    """The two rows of ratios (M,): their median, and the share below MEMORISED."""
    common = config["row"] | {"split": "+".join(config["splits"]), "images": len(ratio), "extractor": "pixels"}
    values = {"nearest_ratio": np.median(ratio), "memorised": np.mean(ratio < MEMORISED)}
    named = {figure_name(figure, len(ratio), "pixels"): float(value) for figure, value in values.items()}
    return [common | {"evaluator": name, "value": value} for name, value in named.items()]


if __name__ == "__main__":
    run(main)
