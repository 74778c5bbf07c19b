"""A dataset's images, labels and splits into one HDF5 store."""

from diffprobe.data import digits, images
from diffprobe.data.splits import stratified
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    rule = job.config["split"]
    pixels, labels = digits.load()
    split = stratified(labels, rule["seed"], rule["select"], rule["test"])
    images.write(
        job.output("images"),
        pixels,
        labels,
        split,
        name="digits",
        source="scikit-learn load_digits",
        classes=[str(digit) for digit in range(10)],
        split_rule={"kind": "stratified", **rule},
    )
    job.write_receipt(store=images.describe(job.output("images")))


if __name__ == "__main__":
    run(main)
