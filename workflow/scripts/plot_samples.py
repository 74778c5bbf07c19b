"""A grid of samples. Config: columns, rows, scale."""

import numpy as np

from diffprobe.reporting.images import grid
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    options = {name: job.config[name] for name in ("columns", "rows", "scale")}
    samples = np.load(job.input("samples"))["arr_0"]  # uint8 (N, H, W, C)
    with atomic(job.output("plot")) as partial:
        grid(samples, **options).save(partial)


if __name__ == "__main__":
    run(main)
