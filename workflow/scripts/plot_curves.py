"""Generation against representation over training, the chosen checkpoint marked. Config: dpi."""

from diffprobe.reporting.plots import curves
from diffprobe.runtime.files import atomic, read_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    rows = [row for path in job.group("results") for row in read_json(path)["rows"]]
    choice = read_json(job.input("choice")) if "choice" in job.inputs else None
    figure = curves(rows, choice, job.config["dpi"])
    with atomic(job.output("plot")) as partial:
        figure.savefig(partial)


if __name__ == "__main__":
    run(main)
