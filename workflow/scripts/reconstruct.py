"""How well an autoencoder gives back images that it has not seen, those of `test`, and some pairs for the eye: PSNR,
SSIM, LPIPS where its weights are there, and the Frechet distance by the extractors that samples are measured with.

Config: latents, dataset, extractors (by name). Inputs: images; autoencoder; weights.NAME of extractors; vgg,
weights for LPIPS. Options: images, those that the autoencoder takes at once; batch, those that an extractor takes. The
posterior's mean is decoded.
"""

import numpy as np
import torch

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.reconstruction import Reconstruction, likenesses, reconstructed
from diffprobe.evaluation.model import load_codec
from diffprobe.networks.perceptual import LPIPS, available
from diffprobe.runtime.files import atomic, write_json
from diffprobe.runtime.job import Job, run

SHOWN = 64  # pairs that are kept for the plot


def make_perceptual(job: Job) -> LPIPS | None:
    """LPIPS, but nothing is downloaded for it: half a gigabyte is fetched only where a training asks for it."""
    file, missing = available(job.optional("vgg"), download=False)
    if file is None:
        print(missing, file=job.log)
    return LPIPS(file).to(job.device, memory_format=torch.channels_last) if file else None


def main(job: Job) -> None:
    config, device = job.config, job.device
    images = open_images(job.input("images"), splits=["test"])
    height, width, channels = images.shape
    codec, _ = load_codec(job.input("autoencoder"), device, (channels, height, width))
    perceptual, weights = make_perceptual(job), job.named("weights")
    measures, without = likenesses(codec.size, perceptual)
    for line in without:
        print(f"{line}, the autoencoder's have {codec.size}: left out", file=job.log)
    made = {name: extractors.make(found, weights.get(name), device) for name, found in config["extractors"].items()}
    found = Reconstruction(codec, measures, made, images.n, device, int(job.options["batch"]))
    pairs: list[torch.Tensor] = []
    job.progress.start(images.n, "images")
    for pair in reconstructed(images, found, int(job.options["images"])):
        if sum(shown.shape[1] for shown in pairs) < SHOWN:
            pairs.append(torch.stack(pair).cpu())  # uint8 (2, B, S, S, C)
        job.progress.update(found.done)
    row = {"dataset": config["dataset"], "split": "test", "latents": config["latents"]}
    with atomic(job.output("pairs")) as partial:
        np.savez(partial, images=torch.cat(pairs, dim=1)[:, :SHOWN].numpy())  # uint8 (2, n, S, S, C)
    write_json(job.output("rows"), {"rows": [row | told for told in found.rows()]})
    known = {name: extractor.identity for name, extractor in made.items()}
    lpips = perceptual.sha256 if "lpips" in measures else "absent"
    job.write_receipt(images=images.n, lpips=lpips, extractors=known, images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
