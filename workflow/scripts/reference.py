"""A dataset's reference statistics under one extractor: over the images that generators may see.

Config: extractor, subset, splits. Inputs: images; weights of the extractor; brought, statistics made elsewhere.
Options: batch; kept, the folder where statistics lie by content, for every run that needs the same.
"""

from pathlib import Path

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation import extractors
from diffprobe.evaluation.extractors import Extractor
from diffprobe.evaluation.reference import Reference, name, read, write
from diffprobe.evaluation.reference_sources import brought, computed
from diffprobe.runtime.job import Job, run


def of_images(job: Job, extractor: Extractor, **options) -> Reference:
    """Taken from where they lie by content, and put there first where they do not."""
    images = open_images(job.input("images"), splits=job.config["splits"])
    kept = Path(job.options["kept"]) / name(images.identity, options["most"], extractor)
    if kept.exists():
        job.say(f"takes {kept}, computed before")
    else:
        job.progress.start(images.n, "images")
        origin = "+".join(job.config["splits"])
        write(kept, computed(images, extractor, report=job.progress.update, origin=origin, **options))
    return read(kept, extractor)


def main(job: Job) -> None:
    extractor = extractors.make(job.config["extractor"], job.optional("weights"), job.device)
    options = {"most": job.config["subset"], "device": job.device, "batch": int(job.options["batch"])}
    if "brought" in job.inputs:
        found = brought(job.input("brought"), extractor, **options)
    else:
        found = of_images(job, extractor, **options)
    write(job.output("reference"), found)
    job.write_receipt(images=found.n, extractor=extractor.identity, origin=found.origin, about=found.about)


if __name__ == "__main__":
    run(main)
