"""Images drawn from one checkpoint by one sampler, and a strip that shows how some of them come about.

Config: images, batch, seed, sampler. Inputs: ema, and autoencoder where the model sees latents.
"""

from pathlib import Path

import numpy as np
import torch

from diffprobe.evaluation import model
from diffprobe.evaluation.sampling import draw, strip
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run

STRIP = 8  # images in the strip


def main(job: Job) -> None:
    device, config = job.device, job.config
    autoencoder = job.inputs.get("autoencoder")
    trained = model.load(job.input("ema"), device, autoencoder and Path(autoencoder))
    options = {"seed": config["seed"], **{key: config["sampler"][key] for key in ("steps", "rho", "guidance")}}
    n, batch = config["images"], config["batch"]
    job.progress.start(n, "images")
    parts = []
    for start in range(0, n, batch):
        rows = torch.arange(start, min(start + batch, n), device=device)
        parts.append(draw(trained, rows, **options).cpu())
        job.progress.update(int(rows[-1]) + 1)
    with atomic(job.output("samples")) as partial:
        np.savez(partial, arr_0=torch.cat(parts).numpy())  # ADM's form: uint8 (N, H, W, C)
    frames = strip(trained, torch.arange(min(STRIP, n), device=device), **options)
    with atomic(job.output("strip")) as partial:
        np.savez(
            partial,
            images=frames.cpu().numpy(),
            sigmas=trained.process.schedule(options["steps"], options["rho"]).numpy(),
        )
    job.write_receipt(images=n, images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
