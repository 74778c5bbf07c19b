"""Write a dataset's images, labels and splits to one HDF5 store.

Config: `config.datasets.Dataset`, and state, a fingerprint of local files. Inputs: archives, the mark beside downloaded
files; fetched, remote files. A resumed job keeps images that are decoded. Splits follow the source's listing, whatever
the order of rows.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.config.datasets import Dataset
from diffprobe.config.remote import content_name
from diffprobe.data import images, order
from diffprobe.data.downloads import downloaded
from diffprobe.data.labels import refuse_unlabelled
from diffprobe.data.prepared import default_channels, divide, list_images
from diffprobe.reporting.dataset import facts
from diffprobe.runtime.errors import UserError


def main(job: Job) -> None:
    path = job.output("images")
    dataset = Dataset.model_validate({key: value for key, value in job.config.items() if key != "state"})
    archives = {}
    if "archives" in job.inputs:
        folder = job.input("archives").parent
        archives = {archive.name: downloaded(archive, folder) for archive in dataset.source.archives}
    archives |= {content_name(path.name, path.parent.name): path for path in job.group("fetched")}
    listing = list_images(dataset, archives)
    keys = job.options.get("needing_labels", "")
    refuse_unlabelled(job.options.get("dataset", ""), listing.classes, keys.split(",") if keys else [])
    prepared = divide(dataset, listing)
    split, seen = prepared.split, facts(dataset, prepared).model_dump(mode="json")
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
        masks=listing.masks,
        pixels=dataset.decode == "once",
        workers=job.threads,
        report=job.progress.update,
        source=listing.origin,
        classes=list(listing.classes),
        split_rule=prepared.rule.model_dump(mode="json"),
    )
    store = images.describe(path)
    if dataset.content not in (None, store["content"]):
        path.unlink()
        raise UserError(
            f"datasets.{job.options.get('dataset', '')}.content: these images, labels and splits have the hash "
            f"{store['content']}, not {dataset.content}; use the same source, size, resize, only, per_class and split"
        )
    job.write_receipt(store=store, seen=seen, images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
