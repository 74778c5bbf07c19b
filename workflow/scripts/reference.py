"""A dataset's reference statistics under one extractor: over the images that generators may see.

Config: extractor, subset, splits. Inputs: images; weights of the extractor; brought, statistics made elsewhere.
Options: batch; autosave; kept, the folder where statistics lie by content, for every run that needs the same.
"""

from pathlib import Path

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.reference import Reference, name, read, write
from diffprobe.evaluation.generation.reference_sources import brought, computed
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.locks import exclusive


def of_images(job: Job, extractor: Extractor, **options) -> Reference:
    """Taken from where they lie by content, and put there first where they do not."""
    images = open_images(job.input("images"), splits=job.config["splits"])
    kept = Path(job.options["kept"]) / name(images.identity, options["most"], extractor)
    if kept.exists():
        job.say(f"takes {kept}, computed before")
        return read(kept, extractor)
    saved = Autosave(kept.with_suffix(".part.safetensors"), kept.name, float(job.options["autosave"]))
    job.progress.start(images.n, "images")
    waits = f"waits: another process ({{}}) computes {kept}"
    with exclusive(kept.with_suffix(".lock"), lambda owner: job.say(waits.format(owner))):
        if not kept.exists():
            origin = "+".join(job.config["splits"])
            write(kept, computed(images, extractor, report=job.progress.update, origin=origin, saved=saved, **options))
        saved.clear()
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
