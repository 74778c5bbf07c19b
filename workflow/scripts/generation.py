"""How good the samples of one checkpoint are, against the reference of each extractor; the store is read once.

Config: row, extractors (by name), figures, metrics. Inputs: samples, reference.NAME, weights.NAME. Option: batch.
"""

from diffprobe.data.imagesets import open_images
from diffprobe.data.samples import open_samples
from diffprobe.evaluation.collect import collect
from diffprobe.evaluation.measuring import Measure
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    measure = Measure.of(job.config, job.named("weights"), job.named("reference"), job.device)
    images = open_images(job.input("samples"))
    job.progress.start(images.n, "images")
    options = {"batch": int(job.options["batch"]), "report": job.progress.update}
    plan = measure.plan(images.n)
    found = collect(measure.extractors, images, plan, measure.figures, job.device, **options)
    write_json(job.output("rows"), {"rows": measure.rows(found)})
    job.write_receipt(figures=measure.about(found), samples=open_samples(job.input("samples")).about)


if __name__ == "__main__":
    run(main)
