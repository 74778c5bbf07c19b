"""Images drawn from one checkpoint by one sampler, and a strip that shows how some of them come about.

Config: images, keep, batch, seed, sampler, weights. Inputs: ema, and autoencoder where the model sees latents.
"""

from diffprobe.data import samples
from diffprobe.evaluation.sampling import Drawing
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    drawing = Drawing.of(job.config, job.input("ema"), job.optional("autoencoder"), job.device)
    n, store = job.config["keep"], job.output("samples").parent
    job.progress.start(n, "images")
    samples.fill(store, n, drawing.model.image, drawing.about, drawing.array, job.progress.update)
    drawing.write_strip(job.output("strip"), n)
    job.write_receipt(images=n, images_per_second=round(job.progress.rate, 1), samples=drawing.about)


if __name__ == "__main__":
    run(main)
