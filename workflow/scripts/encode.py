"""A dataset's images through an autoencoder into a store of latents. Config: views, scale, seed, batch, shard_chunks.

Parts that an earlier, killed run has finished are kept; the store's mark is written last.
"""

from torch import Tensor

from diffprobe.data import images
from diffprobe.data.pixels import to_float
from diffprobe.evaluation.model import load_codec
from diffprobe.latents.encoding import encode, split_arrays
from diffprobe.latents.identity import planned, scaling
from diffprobe.latents.store import finish
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    device, config = job.device, job.config
    found = images.describe(job.input("images"))
    image = (found["channels"], found["size"], found["size"])
    codec, header = load_codec(job.input("autoencoder"), device, image)
    path = job.output("store").parent
    store = planned(config, path, job.input("images"), header["codec"], job.input("autoencoder"))

    def moments(pixels: Tensor) -> Tensor:  # (B, H, W, C) to (B, 2C, h, w)
        return codec.moments(to_float(pixels.to(device)))

    job.progress.start(sum(part.stop - part.start for part in store.parts), "images")
    encode(store, job.input("images"), moments, config["batch"], job.progress.update)
    labels, rows = split_arrays(job.input("images"), list(store.counts))
    finish(store, labels, rows, scaling(config))
    job.write_receipt(images=job.progress.total, parts=len(store.parts))


if __name__ == "__main__":
    run(main)
