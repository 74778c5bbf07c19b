"""Accuracy of a checkpoint over layer and noise, its choice framed. Config: kimg, taps (in order), dpi."""

import pandas as pd

from diffprobe.reporting.plots import heatmap
from diffprobe.runtime.files import atomic, read_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config = job.config
    grid = pd.read_csv(job.input("grid"), dtype={"level": str})
    select = read_json(job.input("select"))
    name = select["rows"][0]["experiment"]
    on = "test, as published" if select["choice"]["selection"] == "published" else "select"
    title = f"{name} at {config['kimg']} thousand images:\naccuracy of {select['choice']['scorer']} on {on} (%)"
    figure = heatmap(grid, select["choice"], title, config["taps"], config["dpi"])
    with atomic(job.output("plot")) as partial:
        figure.savefig(partial)


if __name__ == "__main__":
    run(main)
