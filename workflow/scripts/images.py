"""Write a dataset's images, labels and splits to one HDF5 store.

Config: `config.datasets.Dataset`, and state, a fingerprint of local files. Input: archives, the mark beside downloaded
files. A resumed job keeps images that are decoded. Splits follow the source's listing, whatever the order of rows.
"""

import numpy as np

from diffprobe.config.datasets import Dataset, Official, Split, Stratified
from diffprobe.data import images, order, sources, splits
from diffprobe.data.labels import refuse_unlabelled
from diffprobe.data.listing import Listing
from diffprobe.runtime.job import Job, run


def list_images(job: Job, dataset: Dataset) -> Listing:
    """List the configured images without decoding them."""
    archives = {}
    if "archives" in job.inputs:
        folder = job.input("archives").parent
        archives = {archive.name: folder / archive.name for archive in dataset.source.archives}
    listing = sources.find(dataset.source, archives)
    return listing.take(splits.limit(listing, dataset.per_class)) if dataset.per_class else listing


def default_split(listing: Listing) -> Split:
    """The source's official splits if it has any, else a stratified split."""
    return Stratified(kind="stratified") if listing.official is None else Official(kind="official")


def default_channels(listing: Listing) -> int:
    """The channels of a source of arrays; 3 for files, which may differ from each other."""
    return listing.images.shape[3] if isinstance(listing.images, np.ndarray) else 3


def main(job: Job) -> None:
    path = job.output("images")
    dataset = Dataset.model_validate({key: value for key, value in job.config.items() if key != "state"})
    listing = list_images(job, dataset)
    keys = job.options.get("needing_labels", "")
    refuse_unlabelled(job.options.get("dataset", ""), listing.classes, keys.split(",") if keys else [])
    rule = dataset.split or default_split(listing)
    split = splits.assign(rule, listing.labels, listing.official, listing.classes)
    rows = order.shuffled_rows(listing)
    if rows is not None:
        listing, split = listing.take(rows), split[rows]
    job.progress.start(len(split), "images")
    images.fill(
        path,
        listing.images,
        listing.labels,
        split,
        size=dataset.size,
        channels=dataset.channels or default_channels(listing),
        resize=dataset.resize,
        scratch=path.parent / "scratch",
        order=rows,
        pixels=dataset.decode == "once",
        workers=job.threads,
        report=job.progress.update,
        source=listing.origin,
        classes=list(listing.classes),
        split_rule=rule.model_dump(mode="json"),
    )
    job.write_receipt(store=images.describe(path), images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
