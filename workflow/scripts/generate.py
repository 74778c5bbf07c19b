"""Images drawn from one checkpoint and measured as they come; only the first are kept, for the grids.

Config: sample (images, keep, seed, sampler, weights), generation (row, extractors, figures, metrics). Inputs:
weights, autoencoder where the model sees latents, reference.NAME, weights.NAME (of extractors). Options: draw and
batch, images drawn and measured at a time; autosave, seconds.
A killed job resumes from its last autosave, with the same figures.
"""

import torch

from diffprobe.data import samples
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.collect import update
from diffprobe.evaluation.generation.measurement import Measurement
from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.evaluation.sampling import Drawing
from diffprobe.plan.arguments import GenerationArgument, SampleArgument
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run


def collect(
    job: Job, measurement: Measurement, drawing: Drawing, kept: samples.SampleStore, saved: Autosave
) -> list[Statistics]:
    """The statistics of all images: the kept ones as they are read back, the others as they are drawn."""
    n, step, batch = job.config["sample"]["images"], int(job.options["draw"]), int(job.options["batch"])
    statistics = measurement.new_statistics(n)
    start = saved.restore(statistics)
    while start < n:
        is_kept = start < kept.shape[0]
        stop = min(start + step, kept.shape[0] if is_kept else n)
        images = torch.from_numpy(kept.read(start, stop)) if is_kept else drawing.images(start, stop)
        update(statistics, start, images, job.device, batch)
        start = stop
        saved.offer(statistics)
        job.progress.update(start)
    return statistics


def main(job: Job) -> None:
    config, keep = job.config["sample"], job.config["sample"]["keep"]
    argument = GenerationArgument.model_validate(job.config["generation"])
    measurement = Measurement.load(argument, job.named("weights"), job.named("reference"), job.device)
    measurement.new_statistics(config["images"])  # refuses before anything is drawn
    sample, draw = SampleArgument.model_validate(config), int(job.options["draw"])
    drawing = Drawing.of(sample, job.input("weights"), job.optional("autoencoder"), draw, job.device)
    job.progress.start(config["images"], "images")
    store = drawing.fill(job.output("samples").parent, keep, job.progress.update)
    about = drawing.about | {"images": config["images"]}
    path = job.output("rows").with_suffix(".part.safetensors")
    saved = measurement.autosave(path, about, float(job.options["autosave"]))
    statistics = collect(job, measurement, drawing, store, saved)
    drawing.write_strip(job.output("strip"), keep)
    write_json(job.output("rows"), {"rows": [argument.row | row for row in measurement.rows(statistics)]})
    job.write_receipt("samples_receipt", images=keep, samples=drawing.about)
    rate = round(job.progress.rate, 1)
    job.write_receipt(figures=measurement.about(statistics), samples=about, images_per_second=rate)
    saved.clear()


if __name__ == "__main__":
    run(main)
