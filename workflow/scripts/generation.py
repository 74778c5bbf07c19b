"""The metrics of one checkpoint's samples against the references of all extractors, in one pass over the samples.

Config: `plan.arguments.GenerationArgument`. Inputs: samples, reference.NAME, weights.NAME. Options: batch;
autosave, seconds, from which a killed job resumes.
"""

from functools import partial

from diffprobe.runtime.job import Job, run

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.measurement import Measurement
from diffprobe.plan.arguments import GenerationArgument
from diffprobe.runtime.devices import peak_flops
from diffprobe.runtime.files import write_json


def main(job: Job) -> None:
    argument = GenerationArgument.model_validate(job.config)
    measurement = Measurement.load(argument, job.named("weights"), job.named("reference"), job.device)
    images = open_images(job.input("samples"))
    statistics = measurement.new_statistics(images.n)
    path = job.output("rows").with_suffix(".part.safetensors")
    saved = measurement.autosave(path, images.identity, float(job.options["autosave"]))
    job.progress.compare(partial(measurement.image_flops, images.shape), partial(peak_flops, job.device))
    job.progress.start(images.n, "images")
    batch, report = int(job.options["batch"]), job.progress.update
    collect(statistics, images, job.device, batch=batch, report=report, saved=saved)
    write_json(job.output("rows"), {"rows": [argument.row | row for row in measurement.rows(statistics)]})
    about, rate = images.identity["about"] | {"images": images.n}, round(job.progress.rate, 1)
    job.write_receipt(figures=measurement.about(statistics), samples=about, images_per_second=rate)
    saved.clear()


if __name__ == "__main__":
    run(main)
