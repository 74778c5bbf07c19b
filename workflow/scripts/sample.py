"""Draw samples from one checkpoint with one sampler, and a strip that shows some of them during denoising.

Config: `plan.arguments.SampleArgument`. Inputs: weights; autoencoder, if the model works on latents; images, if it
draws by their codes. Option: draw, the batch size.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.evaluation.sampling import Drawing
from diffprobe.plan.arguments import SampleArgument
from diffprobe.reporting.mosaics import write_preview
from diffprobe.runtime.devices import report_slow_precision


def main(job: Job) -> None:
    argument, draw = SampleArgument.model_validate(job.config), int(job.options["draw"])
    n = argument.keep
    drawing = Drawing.of(
        argument, job.input("weights"), job.optional("autoencoder"), draw, job.device, job.optional("images")
    )
    report_slow_precision(drawing.sampler.settings.precision, job.device, job.say)
    job.progress.compare(drawing.image_flops, drawing.peak_flops)
    job.progress.start(n, "images")
    store = drawing.fill(job.output("samples").parent, n, job.progress.update)
    job.say(f"first samples: {write_preview(store)}")
    drawing.write_strip(job.output("strip"), n, argument.strip_stride)
    rate = round(job.progress.rate, 1)
    job.write_receipt(images=n, images_per_second=rate, samples=drawing.about, labels=drawing.labels)


if __name__ == "__main__":
    run(main)
