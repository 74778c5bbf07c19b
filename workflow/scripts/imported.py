"""Turn weights written by `diffprobe import` into a checkpoint, after checking that they match the experiment.

Config: network and process, and the task where its model is more, as the weights' header must have them. Inputs:
weights; of a model of latents also images and latents, whose scale and content its checkpoint must name.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from diffprobe.runtime.job import Job, run

from diffprobe.config.problems import listed
from diffprobe.runtime import tensors
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical
from diffprobe.runtime.tensors import CHECKPOINT
from diffprobe.training import checkpoints
from diffprobe.training.data import open_data

MOST = 0.05  # difference of measured scales, and of shifts in their units; other views of the same images differ less


def main(job: Job) -> None:
    path = job.input("weights")
    header = checkpoints.header(path)
    for part in ("network", "process", "task"):
        if header.get(part) != job.config.get(part):
            raise UserError(f"{path}: its {part} differs from the config's; run `diffprobe import` again")
    if "latents" in job.inputs:
        with_latents(job, path, header)
    else:
        tensors.check(path, CHECKPOINT)  # every byte, before a copy of it is what everything is made from
        with atomic(job.output("ema")) as partial:
            shutil.copyfile(path, partial)
            os.utime(partial)  # newer than its input, as Snakemake expects
    job.write_receipt(images=header["images"], weights=header["weights"])


def with_latents(job: Job, path: Path, header: dict[str, Any]) -> None:
    """Write the weights with the store of latents in their header, as training does: samples are decoded by it."""
    data = open_data({"images": job.input("images"), "latents": job.input("latents")}, {})
    if list(data.shape) != header["image"]:
        sizes = ("x".join(map(str, shape)) for shape in (header["image"], data.shape))
        raise UserError("{}: for latents of {}, but those of the config are {}; import again".format(path, *sizes))
    own, store = header.get("latents", {}), data.header["latents"]
    refuse_other_scale(path, own, store)
    # Samples are decoded to the pixels that the weights were trained on, which the store's need not be.
    same = own.get("content") == store["content"]
    latents = {key: value for key, value in store.items() if same or key != "normalise"}
    latents |= {key: value for key, value in own.items() if key == "normalise"}
    # The tensors lie in a mapped file, so 3 GB of them take no such memory.
    described = canonical(header | {"latents": latents})
    tensors.write(job.output("ema"), dict(tensors.each(path, CHECKPOINT)), CHECKPOINT, described)


def refuse_other_scale(path: Path, own: dict[str, Any], store: dict[str, Any]) -> None:
    """Raise UserError for weights that were trained here on latents in a clearly different scale."""
    if not own:
        return
    scales = zip(own["scale"], own["shift"], store["scale"], store["shift"], strict=True)
    if any(abs(a / b - 1) > MOST or abs(s - t) * b > MOST for a, s, b, t in scales):
        before, now = (f"scale {rounded(each['scale'])} and shift {rounded(each['shift'])}" for each in (own, store))
        raise UserError(
            f"{path}: trained on latents of {before}, but the store's have {now}; give both one number as `scale`"
        )


def rounded(numbers: list[float]) -> str:
    return listed(f"{number:.4g}" for number in numbers)


if __name__ == "__main__":
    run(main)
