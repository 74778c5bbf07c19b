"""A dataset's images, labels and splits into one HDF5 store.

Config: source, size, channels, resize, decode (if not `once`), per_class, split. Inputs: the mark beside a downloaded
source's archives. Decoding that a killed run has done is not done again. Splits are those of the source's listing,
whatever order the store has.
"""

import numpy as np

from diffprobe.config.datasets import Official, Stratified
from diffprobe.data import images, order, sources, splits
from diffprobe.data.downloads import FILES
from diffprobe.data.labels import refuse_unlabelled
from diffprobe.data.listing import Listing
from diffprobe.runtime.job import Job, run


def listed(job: Job) -> Listing:
    """The images that are asked for, not yet decoded."""
    source, per_class = job.config["source"], job.config["per_class"]
    folder = job.input("archives").parent if "archives" in job.inputs else None
    archives = {archive.name: folder / archive.name for archive in FILES[source["kind"]]} if folder else {}
    listing = sources.find(source, archives)
    return listing.take(splits.limit(listing, per_class)) if per_class else listing


def split_rule(rule: dict | None, listing: Listing) -> dict:
    """The rule that the config names, else the source's own splits, else shares of each class."""
    if rule:
        return rule
    default = Stratified(kind="stratified") if listing.official is None else Official(kind="official")
    return default.model_dump(mode="json")


def channels(asked: int | None, listing: Listing) -> int:
    """As asked, else as the source has them; of files nobody knows before all are read, so 3."""
    return asked or (listing.images.shape[3] if isinstance(listing.images, np.ndarray) else 3)


def main(job: Job) -> None:
    config, path = job.config, job.output("images")
    listing = listed(job)
    asking = job.options.get("asking", "")
    refuse_unlabelled(job.options.get("dataset", ""), listing.classes, asking.split(",") if asking else [])
    rule = split_rule(config["split"], listing)
    split = splits.assign(rule, listing.labels, listing.official, listing.classes)
    rows = order.shuffled(listing)
    if rows is not None:
        listing, split = listing.take(rows), split[rows]
    job.progress.start(len(split), "images")
    images.fill(
        path,
        listing.images,
        listing.labels,
        split,
        size=config["size"],
        channels=channels(config["channels"], listing),
        resize=config["resize"],
        scratch=path.parent / "scratch",
        order=rows,
        pixels=config.get("decode", "once") == "once",
        workers=job.threads,
        report=job.progress.update,
        source=listing.origin,
        classes=list(listing.classes),
        split_rule=rule,
    )
    job.write_receipt(store=images.describe(path), images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
