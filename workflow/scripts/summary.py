"""Every figure in one table, and small ones: what came out, and the best generator against the best features.

Config: experiments; probed, one per choice.
"""

from diffprobe.reporting.tables import best, results, summary
from diffprobe.runtime.files import atomic, read_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    rows = [row for path in job.group("results") for row in read_json(path)["rows"]]
    probed = dict(zip(job.config["probed"], map(read_json, job.group("choice")), strict=True))
    choices = {name: probed.get(name) for name in job.config["experiments"]}
    with atomic(job.output("summary")) as partial:
        summary(rows).to_csv(partial, index=False)
    with atomic(job.output("table")) as partial:
        results(rows, choices).to_csv(partial, index=False)
    with atomic(job.output("best")) as partial:
        best(rows, choices).to_csv(partial, index=False)


if __name__ == "__main__":
    run(main)
