"""The table of a dataset in the report. Config: nothing. Input: images, the receipt of the store of its images."""

import csv

from diffprobe.runtime.job import Job, run

from diffprobe.reporting.dataset import read_facts, rows
from diffprobe.runtime.files import atomic


def main(job: Job) -> None:
    seen = read_facts(job.input("images"))
    with atomic(job.output("table")) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("what", "seen"), *rows(seen)])


if __name__ == "__main__":
    run(main)
