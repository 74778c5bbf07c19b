"""Images drawn from one checkpoint and measured as they come; only the first are kept, for the grids.

Config: sample (images, keep, seed, sampler, weights), generation (row, extractors, figures, metrics). Inputs:
weights, autoencoder where the model sees latents, reference.NAME, weights.NAME (of extractors). Options: draw and
batch, images drawn and measured at a time; autosave, seconds.
A killed job goes on from its last autosave, with the same figures.
"""

import torch

from diffprobe.data import samples
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.collect import begin, take
from diffprobe.evaluation.generation.measuring import Measure
from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.evaluation.sampling import Drawing
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run


def measured(
    job: Job, measure: Measure, drawing: Drawing, kept: samples.SampleStore, saved: Autosave
) -> dict[str, Statistics]:
    """The statistics of all images: those that are kept as they are read back, the others as they are drawn."""
    n, step, batch = job.config["sample"]["images"], int(job.options["draw"]), int(job.options["batch"])
    found = begin(measure.extractors, measure.plan(n), measure.figures)
    start = saved.restore(found)
    while start < n:
        of_kept = start < kept.shape[0]
        stop = min(start + step, kept.shape[0] if of_kept else n)
        images = torch.from_numpy(kept.read(start, stop)) if of_kept else drawing.images(start, stop)
        take(found, measure.extractors, start, images, job.device, batch)
        start = stop
        saved.offer(found)
        job.progress.update(start)
    return found


def main(job: Job) -> None:
    config, keep = job.config["sample"], job.config["sample"]["keep"]
    measure = Measure.of(job.config["generation"], job.named("weights"), job.named("reference"), job.device)
    measure.plan(config["images"])  # refuses before anything is drawn
    drawing = Drawing.of(
        config, job.input("weights"), job.optional("autoencoder"), int(job.options["draw"]), job.device
    )
    job.progress.start(config["images"], "images")
    store = drawing.fill(job.output("samples").parent, keep, job.progress.update)
    about = drawing.about | {"images": config["images"]}
    path = job.output("rows").with_suffix(".part.safetensors")
    saved = measure.autosave(path, about, float(job.options["autosave"]))
    found = measured(job, measure, drawing, store, saved)
    drawing.write_strip(job.output("strip"), keep)
    write_json(job.output("rows"), {"rows": measure.rows(found)})
    job.write_receipt("samples_receipt", images=keep, samples=drawing.about)
    job.write_receipt(figures=measure.about(found), samples=about, images_per_second=round(job.progress.rate, 1))
    saved.clear()


if __name__ == "__main__":
    run(main)
