"""How well an autoencoder reconstructs images that it has not seen, those of `test`: PSNR, SSIM, LPIPS if its weights
are cached, the Fréchet distance by the extractors that samples are measured with, and some pairs to look at.

Config: latents, dataset, extractors (by name). Inputs: images; autoencoder; weights.NAME of extractors; vgg, weights
for LPIPS. Options: images, those that the autoencoder takes at once; batch, those that an extractor takes. The
posterior's mean is decoded.
"""

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
from diffprobe.runtime.job import Job, run

SHOWN = 64  # pairs that are kept for the plot


def make_perceptual(job: Job) -> LPIPS | None:
    """LPIPS, if its weights are here: half a gigabyte is downloaded only for a training that needs it."""
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
        print(f"{line}, the autoencoder's have {codec.size}: left out", file=job.log)
    subjects = [
        Subject(name, extractors.make(extractor, weights.get(name), device), reference=None)
        for name, extractor in argument.extractors.items()
    ]
    reconstruction = Reconstruction(codec, measures, subjects, images.n, device, int(job.options["batch"]))
    pairs: list[torch.Tensor] = []
    job.progress.start(images.n, "images")
    for pair in reconstruct(images, reconstruction, int(job.options["images"])):
        if sum(shown.shape[1] for shown in pairs) < SHOWN:
            pairs.append(torch.stack(pair).cpu())  # uint8 (2, B, S, S, C)
        job.progress.update(reconstruction.done)
    row = {"dataset": argument.dataset, "split": "test", "latents": argument.latents}
    with atomic(job.output("pairs")) as partial:
        np.savez(partial, images=torch.cat(pairs, dim=1)[:, :SHOWN].numpy())  # uint8 (2, n, S, S, C)
    write_json(job.output("rows"), {"rows": [row | measured for measured in reconstruction.rows()]})
    identities = {subject.name: subject.extractor.identity for subject in subjects}
    lpips = perceptual.sha256 if "lpips" in measures else "absent"
    job.write_receipt(
        images=images.n, lpips=lpips, extractors=identities, images_per_second=round(job.progress.rate, 1)
    )


if __name__ == "__main__":
    run(main)
