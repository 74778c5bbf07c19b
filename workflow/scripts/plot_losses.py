"""The loss over a whole training run, its slices joined. Config: experiment, dpi."""

from diffprobe.reporting.plots import losses
from diffprobe.runtime.files import atomic, read_jsonl
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    rows = [row for path in job.group("stats") for row in read_jsonl(path)]
    figure = losses({job.config["experiment"]: rows}, job.config["dpi"])
    with atomic(job.output("plot")) as partial:
        figure.savefig(partial)


if __name__ == "__main__":
    run(main)
