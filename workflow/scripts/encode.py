"""Encode one job's share of a dataset's images with an autoencoder into a store of latents.

Config: `latents.settings.EncodingSettings`. Inputs: images, autoencoder. Output: encoded, the plan of the whole store.
Options: share, as job/jobs; batch; store, the folder. A resumed job keeps the parts that are complete.
"""

from dataclasses import asdict
from pathlib import Path

from diffprobe.runtime.job import Job, run

import torch
from torch import Tensor

from diffprobe.data import images
from diffprobe.data.pixels import imagenet_normalised, to_float
from diffprobe.evaluation.model import load_codec
from diffprobe.latents.encoding import encode, share_of
from diffprobe.latents.identity import EncoderFacts, plan_store
from diffprobe.latents.settings import EncodingSettings
from diffprobe.runtime.devices import is_bf16, report_slow_precision
from diffprobe.runtime.files import write_json


def main(job: Job) -> None:
    device, settings = job.device, EncodingSettings.model_validate(job.config)
    summary = images.describe(job.input("images"))
    image = (summary["channels"], summary["size"], summary["size"])
    codec, header = load_codec(job.input("autoencoder"), device, image)
    bf16 = is_bf16(settings.precision, device)
    report_slow_precision(settings.precision, device, job.say)
    dtype = "bfloat16" if bf16 else "float32"
    encoder = EncoderFacts(job.input("autoencoder"), header["codec"], dtype, codec.holds)
    plan = plan_store(settings, Path(job.options["store"]), job.input("images"), encoder)
    number, jobs = map(int, job.options["share"].split("/"))

    def moments(pixels: Tensor) -> Tensor:  # (B, H, W, C) to (B, 2C, h, w)
        x = to_float(pixels.to(device))
        seen = imagenet_normalised((x + 1) / 2) if settings.normalise else x
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return codec.moments(seen)

    parts = share_of(plan, number, jobs)
    job.progress.start(sum(part.rows for part in parts), "images")
    batch = int(job.options["batch"])
    if device.type == "cpu":  # a GPU is filled as the config says
        batch = min(batch, codec.at_once(device))
    encode(plan, job.input("images"), moments, batch, job.progress.update, parts)
    record = {key: value for key, value in asdict(plan).items() if key != "path"}
    write_json(job.output("encoded"), {"store": record, "parts": [part.name for part in parts]})
    job.write_receipt(images=job.progress.total, parts=len(parts), images_per_second=round(job.progress.rate, 1))


if __name__ == "__main__":
    run(main)
