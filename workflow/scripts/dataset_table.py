"""The table of a dataset in the report. Config: nothing. Input: images, the receipt of the store of its images."""

import csv

from diffprobe.runtime.job import Job, run

from diffprobe.reporting.dataset import of_receipt, rows
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic
from diffprobe.runtime.receipts import read_receipt
from diffprobe.runtime.results import AGAIN


def main(job: Job) -> None:
    path = job.input("images")
    receipt = read_receipt(path)
    if receipt is None:
        raise UserError(f"{path}: is damaged; {AGAIN}")
    seen = of_receipt(receipt)
    with atomic(job.output("table")) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("what", "seen"), *rows(seen)])


if __name__ == "__main__":
    run(main)
