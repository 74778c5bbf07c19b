"""Images drawn from one checkpoint and measured as they come; only the first are kept, for the grids.

Config: sample (images, keep, batch, seed, sampler, weights), generation (row, extractors, figures, metrics). Inputs:
ema, autoencoder where the model sees latents, reference.NAME, weights.NAME. Options: batch, autosave.
A killed job goes on from its last autosave, with the same figures to the last digit.
"""

import torch

from diffprobe.data import samples
from diffprobe.evaluation.autosave import Autosave
from diffprobe.evaluation.collect import begin, take
from diffprobe.evaluation.measuring import Measure
from diffprobe.evaluation.sampling import Drawing
from diffprobe.evaluation.statistics import Statistics
from diffprobe.runtime.files import digest, write_json
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.receipts import code_version


def measured(job: Job, measure: Measure, drawing: Drawing, kept: samples.Samples) -> dict[str, Statistics]:
    """The statistics of all images: those that are kept as they are read back, the others as they are drawn."""
    n, step, batch = job.config["sample"]["images"], job.config["sample"]["batch"], int(job.options["batch"])
    found = begin(measure.extractors, measure.plan(n), measure.figures)
    identity = digest([job.config, drawing.about, code_version()])
    saved = Autosave(kept.path.with_suffix(".part.safetensors"), identity, float(job.options["autosave"]))
    start = saved.restore(found)
    while start < n:
        of_kept = start < kept.shape[0]
        stop = min(start + step, kept.shape[0] if of_kept else n)
        images = torch.from_numpy(kept.read(start, stop)) if of_kept else drawing.images(start, stop)
        take(found, measure.extractors, start, images, job.device, batch)
        saved.offer(found)
        start = stop
        job.progress.update(start)
    saved.clear()
    return found


def main(job: Job) -> None:
    config, generation = job.config["sample"], job.config["generation"]
    measure = Measure.of(generation, job.named("weights"), job.named("reference"), job.device)
    drawing = Drawing.of(config, job.input("ema"), job.optional("autoencoder"), job.device)
    store = job.output("samples").parent
    job.progress.start(config["images"], "images")
    samples.fill(store, config["keep"], drawing.model.image, drawing.about, drawing.array, job.progress.update)
    found = measured(job, measure, drawing, samples.open_samples(store))
    drawing.write_strip(job.output("strip"), config["keep"])
    write_json(job.output("rows"), {"rows": measure.rows(found)})
    job.write_receipt("samples_receipt", images=config["keep"], samples=drawing.about)
    job.write_receipt(figures=measure.about(found), samples=drawing.about | {"images": config["images"]})


if __name__ == "__main__":
    run(main)
