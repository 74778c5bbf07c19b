"""Generated images beside the training images nearest to them. Config: scale, dpi."""

import numpy as np

from diffprobe.reporting.images import neighbours
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    pairs = np.load(job.input("pairs"))  # queries uint8 (n, H, W, C), found uint8 (n, k, H, W, C), ratios (n,)
    options = {name: job.config[name] for name in ("scale", "dpi")} | {"kind": str(pairs["kind"])}
    with atomic(job.output("plot")) as partial:
        neighbours(pairs["queries"], pairs["found"], pairs["ratios"], **options).savefig(partial)


if __name__ == "__main__":
    run(main)
