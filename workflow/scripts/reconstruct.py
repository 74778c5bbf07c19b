"""Quality of an autoencoder's reconstructions of `test` images, decoded from the posterior mean: PSNR, SSIM, LPIPS if
its weights are cached, Fréchet distances under the extractors that measure samples, and some pairs for the plot.

Config: `plan.arguments.ReconstructArgument`. Inputs: images; autoencoder; weights.NAME of extractors; vgg, weights for
LPIPS. Options: images, the autoencoder's batch; batch, the extractors' batch; autosave, in
seconds.
"""

from diffprobe.runtime.job import Job, run

import numpy as np
import torch

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.figures import Subject
from diffprobe.evaluation.generation.reconstruction import Reconstruction, reconstruct, similarities
from diffprobe.evaluation.model import load_codec
from diffprobe.networks.perceptual import LPIPS, available
from diffprobe.plan.arguments import ReconstructArgument
from diffprobe.runtime.files import atomic, write_json


def make_perceptual(job: Job) -> LPIPS | None:
    """LPIPS, if its weights are available locally. Evaluation alone does not justify a download of half a gigabyte."""
    file, missing = available(job.optional("vgg"), download=False)
    if file is None:
        print(missing, file=job.log)
    return LPIPS(file).to(job.device, memory_format=torch.channels_last) if file else None


def main(job: Job) -> None:
    argument, device = ReconstructArgument.model_validate(job.config), job.device
    images = open_images(job.input("images"), splits=["test"])
    height, width, channels = images.shape
    codec, _ = load_codec(job.input("autoencoder"), device, (channels, height, width))
    perceptual, weights = make_perceptual(job), job.named("weights")
    measures, too_small = similarities(codec.size, perceptual)
    for line in too_small:
        print(f"{line}, but the autoencoder has {codec.size}: skipped", file=job.log)
    subjects = [
        Subject(name, extractors.make(extractor, weights.get(name), device), reference=None)
        for name, extractor in argument.extractors.items()
    ]
    reconstruction = Reconstruction(codec, measures, subjects, images.n, device, int(job.options["batch"]))
    job.progress.start(images.n, "images")
    row = {"dataset": argument.dataset, "split": "test", "latents": argument.latents}
    with job.autosaved("rows"):
        for done in reconstruct(images, reconstruction, int(job.options["images"])):
            job.progress.update(done)
        with atomic(job.output("pairs")) as partial:
            np.savez(partial, images=reconstruction.pairs.numpy())
        write_json(job.output("rows"), {"rows": [row | measured for measured in reconstruction.rows()]})
    identities = {subject.name: subject.extractor.identity for subject in subjects}
    lpips = perceptual.sha256 if "lpips" in measures else "absent"
    job.write_receipt(
        images=images.n, lpips=lpips, extractors=identities, images_per_second=round(job.progress.rate, 1)
    )


if __name__ == "__main__":
    run(main)
