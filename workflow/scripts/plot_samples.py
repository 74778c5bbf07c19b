"""A grid of samples. Config: columns, rows, scale."""

from diffprobe.data.samples import open_samples
from diffprobe.reporting.images import grid
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    options = {name: job.config[name] for name in ("columns", "rows", "scale")}
    samples = open_samples(job.input("samples"))
    shown = min(samples.shape[0], options["columns"] * options["rows"])
    with atomic(job.output("plot")) as partial:
        grid(samples.read(0, shown), **options).save(partial)


if __name__ == "__main__":
    run(main)
