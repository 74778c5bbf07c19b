"""How samples come about, step by step. Config: scale, dpi."""

import numpy as np

from diffprobe.reporting.images import strip
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    steps = np.load(job.input("strip"))  # images uint8 (n, steps, H, W, C), sigmas (steps,)
    figure = strip(steps["images"], steps["sigmas"], job.config["scale"], job.config["dpi"])
    with atomic(job.output("plot")) as partial:
        figure.savefig(partial)


if __name__ == "__main__":
    run(main)
