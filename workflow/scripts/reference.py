"""Reference statistics of a dataset under one extractor, over the images that generators may see.

Config: `plan.arguments.ReferenceArgument`. Inputs: images; weights of the extractor; foreign, precomputed statistics.
Options: batch; autosave, in seconds; kept, the shared folder of statistics, which are named by content.
"""

from pathlib import Path

from diffprobe.runtime.job import Job, run

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.autosave import SavedStatistics
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.reference import (
    Reference,
    compute_reference,
    file_name,
    import_reference,
    read,
    write,
)
from diffprobe.plan.arguments import ReferenceArgument
from diffprobe.runtime.locks import exclusive
from diffprobe.runtime.results import write_hash


def shared_reference(job: Job, argument: ReferenceArgument, extractor: FeatureExtractor, batch: int) -> Reference:
    """The reference from the shared folder; computed and stored there if missing."""
    images = open_images(job.input("images"), splits=argument.splits)
    kept = Path(job.options["kept"]) / file_name(images.identity, argument.subset, extractor)
    if kept.exists():
        job.say(f"uses {kept}, computed before")
        return read(kept, extractor)
    saved = SavedStatistics(kept.with_suffix(".part.safetensors"), kept.name, float(job.options["autosave"]))
    job.progress.start(images.n, "images")
    waits = f"waits: another process ({{}}) computes {kept}"
    with exclusive(kept.with_suffix(".lock"), lambda owner: job.say(waits.format(owner))):
        if not kept.exists():
            origin, report = "+".join(argument.splits), job.progress.update
            write(kept, compute_reference(images, extractor, argument.subset, job.device, batch, report, origin, saved))
            write_hash(kept)
        saved.clear()
    return read(kept, extractor)


def main(job: Job) -> None:
    argument, batch = ReferenceArgument.model_validate(job.config), int(job.options["batch"])
    extractor = extractors.make(argument.extractor, job.optional("weights"), job.device)
    if "foreign" in job.inputs:
        reference = import_reference(job.input("foreign"), extractor, argument.subset, job.device, batch)
    else:
        reference = shared_reference(job, argument, extractor, batch)
    write(job.output("reference"), reference)
    job.write_receipt(images=reference.n, extractor=extractor.identity, origin=reference.origin, about=reference.about)


if __name__ == "__main__":
    run(main)
