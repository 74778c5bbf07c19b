"""The table of a dataset in the report. Config: nothing. Input: images, the receipt of the store of its images."""

import csv

from diffprobe.runtime.job import Job, run

from diffprobe.reporting.dataset import of_receipt, rows
from diffprobe.runtime.files import atomic, read_json


def main(job: Job) -> None:
    seen = of_receipt(read_json(job.input("images")))
    with atomic(job.output("table")) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("what", "seen"), *rows(seen)])


if __name__ == "__main__":
    run(main)
