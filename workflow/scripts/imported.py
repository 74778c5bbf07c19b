"""Turn weights written by `diffprobe import` into a checkpoint, after checking that they match the experiment.

Config: network and process, as the weights' header must have them. Input: weights.
"""

import os
import shutil

from diffprobe.runtime.job import Job, run

from diffprobe.runtime import tensors
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic
from diffprobe.runtime.tensors import CHECKPOINT
from diffprobe.training import checkpoints


def main(job: Job) -> None:
    path = job.input("weights")
    header = checkpoints.header(path)
    for part in ("network", "process"):
        if header[part] != job.config[part]:
            raise UserError(f"{path}: its {part} differs from the config's; run `diffprobe import` again")
    tensors.check(path, CHECKPOINT)  # every byte, before a copy of it is what everything is made from
    with atomic(job.output("ema")) as partial:
        shutil.copyfile(path, partial)
        os.utime(partial)  # newer than its input, as Snakemake expects
    job.write_receipt(images=header["images"], weights=header["weights"])


if __name__ == "__main__":
    run(main)
