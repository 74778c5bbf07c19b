"""How good the samples of one checkpoint are, against the reference of each extractor; the store is read once.

Config: row, extractors (by name), figures, metrics. Inputs: samples, reference.NAME, weights.NAME. Options: batch,
autosave; a killed job goes on.
"""

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.measuring import Measure
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    measure = Measure.of(job.config, job.named("weights"), job.named("reference"), job.device)
    images = open_images(job.input("samples"))
    plan = measure.plan(images.n)
    path = job.output("rows").with_suffix(".part.safetensors")
    saved = measure.autosave(path, images.identity, float(job.options["autosave"]))
    job.progress.start(images.n, "images")
    options = {"batch": int(job.options["batch"]), "report": job.progress.update, "saved": saved}
    found = collect(measure.extractors, images, plan, measure.figures, job.device, **options)
    write_json(job.output("rows"), {"rows": measure.rows(found)})
    about = images.identity["about"] | {"images": images.n}
    job.write_receipt(figures=measure.about(found), samples=about, images_per_second=round(job.progress.rate, 1))
    saved.clear()


if __name__ == "__main__":
    run(main)
