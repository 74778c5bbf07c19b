"""How well an autoencoder gives back images that it has not seen: PSNR on `test`, and some pairs for the eye.

Config: latents, dataset, batch. The posterior's mean is decoded; PSNR is that of images at the autoencoder's own size.
"""

import statistics

import numpy as np
import torch

from diffprobe.data import images
from diffprobe.data.pixels import to_float, to_uint8
from diffprobe.evaluation.model import load_codec
from diffprobe.networks.autoencoder import psnr
from diffprobe.runtime.files import atomic, write_json
from diffprobe.runtime.job import Job, run

SHOWN = 64  # pairs that are kept for the plot


@torch.inference_mode()
def main(job: Job) -> None:
    device, config = job.device, job.config
    data = images.read(job.input("images"), ["test"])
    _, height, width, channels = data.images.shape
    codec, _ = load_codec(job.input("autoencoder"), device, (channels, height, width))
    job.progress.start(len(data.images), "images")
    found, pairs = [], []
    for start in range(0, len(data.images), config["batch"]):
        x = to_float(torch.from_numpy(data.images[start : start + config["batch"]]).to(device))
        original, decoded = codec.fitted(x), codec.decode(codec.latents(codec.moments(x))).clamp(-1, 1)
        found += psnr(decoded, original).tolist()
        if start < SHOWN:
            pairs.append(torch.stack([to_uint8(original), to_uint8(decoded)]).cpu())
        job.progress.update(len(found))
    row = {"dataset": config["dataset"], "evaluator": "psnr", "split": "test", "images": len(found)}
    row |= {"latents": config["latents"], "value": statistics.mean(found)}
    row["spread"] = statistics.stdev(found) if len(found) > 1 else None  # over images
    with atomic(job.output("pairs")) as partial:
        np.savez(partial, images=torch.cat(pairs, dim=1)[:, :SHOWN].numpy())  # uint8 (2, n, S, S, C)
    write_json(job.output("rows"), {"rows": [row]})
    job.write_receipt(images=len(found))


if __name__ == "__main__":
    run(main)
