"""Draw samples from one checkpoint and measure them on the fly; only the first are kept, for the sample grids.

Config: `plan.arguments.GenerateArgument`. Inputs: weights; autoencoder, if the model works on latents; images, if it
draws by their codes; reference.NAME and weights.NAME of extractors. Options: draw and batch, images drawn and measured
at a time; autosave, in seconds. A killed job resumes from its last autosave and gives the same metrics.
"""

from diffprobe.runtime.job import Job, run

import torch

from diffprobe.data import samples
from diffprobe.evaluation.generation.autosave import SavedStatistics
from diffprobe.evaluation.generation.collect import update
from diffprobe.evaluation.generation.measurement import Measurement
from diffprobe.evaluation.generation.statistics import Statistics
from diffprobe.evaluation.sampling import Drawing
from diffprobe.plan.arguments import DrawnArgument, GenerateArgument
from diffprobe.reporting.mosaics import write_preview
from diffprobe.runtime.devices import report_slow_precision
from diffprobe.runtime.files import write_json


def collect(
    job: Job,
    argument: DrawnArgument,
    measurement: Measurement,
    drawing: Drawing,
    kept: samples.SampleStore,
    saved: SavedStatistics,
) -> list[Statistics]:
    """Statistics of all images: kept ones are read back from the store, the others measured as they are drawn."""
    n, step, batch = argument.images, int(job.options["draw"]), int(job.options["batch"])
    statistics = measurement.new_statistics(n)
    start = saved.restore(statistics)
    while start < n:
        # Kept images are read back, so that both ways of measuring see the same bytes.
        is_kept = start < kept.shape[0]
        stop = min(start + step, kept.shape[0] if is_kept else n)
        images = torch.from_numpy(kept.read(start, stop)) if is_kept else drawing.images(start, stop)
        update(statistics, start, images, job.device, batch)
        start = stop
        saved.offer_statistics(statistics)
        job.progress.update(start)
    return statistics


def main(job: Job) -> None:
    argument = GenerateArgument.model_validate(job.config)
    sample, draw = argument.sample, int(job.options["draw"])
    measurement = Measurement.load(argument.generation, job.named("weights"), job.named("reference"), job.device)
    measurement.new_statistics(sample.images)  # refuses impossible requests before anything is drawn
    weights, autoencoder, images = job.input("weights"), job.optional("autoencoder"), job.optional("images")
    drawing = Drawing.of(sample, weights, autoencoder, draw, job.device, images)
    report_slow_precision(drawing.sampler.settings.precision, job.device, job.say)

    def image_flops() -> int:
        return drawing.image_flops() + measurement.image_flops(drawing.model.image)

    job.progress.compare(image_flops, drawing.peak_flops)
    job.progress.start(sample.images, "images")
    store = drawing.fill(job.output("samples").parent, sample.keep, job.progress.update)
    job.say(f"first samples: {write_preview(store)}")
    about = drawing.about | {"images": sample.images}
    path = job.output("rows").with_suffix(".part.safetensors")
    saved = measurement.autosave(path, about, float(job.options["autosave"]))
    statistics = collect(job, sample, measurement, drawing, store, saved)
    drawing.write_strip(job.output("strip"), sample.keep, sample.strip_stride)
    write_json(job.output("rows"), {"rows": [argument.generation.row | row for row in measurement.rows(statistics)]})
    job.write_receipt("samples_receipt", images=sample.keep, samples=drawing.about, labels=drawing.labels)
    rate = round(job.progress.rate, 1)
    figures = measurement.about(statistics)
    job.write_receipt(figures=figures, samples=about, labels=drawing.labels, images_per_second=rate)
    saved.clear()


if __name__ == "__main__":
    run(main)
