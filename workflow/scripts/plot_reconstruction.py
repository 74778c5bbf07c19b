"""Originals beside what the autoencoder makes of them. Config: columns, scale."""

import numpy as np

from diffprobe.reporting.images import pairs
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    originals, decoded = np.load(job.input("pairs"))["images"]  # uint8 (n, S, S, C) each
    with atomic(job.output("plot")) as partial:
        pairs(originals, decoded, job.config["columns"], job.config["scale"]).save(partial)


if __name__ == "__main__":
    run(main)
