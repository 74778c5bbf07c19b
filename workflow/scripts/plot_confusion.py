"""Which classes of `test` are taken for which by the probe that scored the grid. Config: experiment, evaluator, dpi."""

import numpy as np

from diffprobe.reporting.plots import confusion
from diffprobe.runtime.files import atomic, read_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config, found = job.config, read_json(job.input("rows"))
    row = found["rows"][0]
    on = ", chosen on test, as published" if row["selection"] == "published" else ""
    title = f"{config['experiment']}, {config['evaluator']} on test{on}:\n{row['value']:.1%} right; % of each class"
    figure = confusion(np.array(found["confusion"]), found["classes"], title, config["dpi"])
    with atomic(job.output("plot")) as partial:
        figure.savefig(partial)


if __name__ == "__main__":
    run(main)
