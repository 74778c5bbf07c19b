"""Latents that another system has encoded as a store of latents, in place of encoding.

Config: imported, scale, shard_chunks; shape, (C, h, w) of a latent; state, which tells when the files change; probing,
whether test is asked for. Options: folder, test, where they lie. What a killed run has written is kept.
"""

from diffprobe.interop.latents.importing import open_placed, planned, write
from diffprobe.latents.completion import finish
from diffprobe.latents.identity import numbers
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.job import Job, run
from diffprobe.training import checkpoints


def main(job: Job) -> None:
    config, options = job.config, job.options
    imported = config["imported"] | {"path": options["folder"], "test": options.get("test")}
    found = open_placed(imported, job.input("images"), tuple(config["shape"]))
    if config["probing"] and "test" not in found:
        remedy = "set latents.NAME.imported.test, or take the probe away"
        raise UserError(f"{imported['path']}: no latents of test there, but a probe asks for them; {remedy}")
    store = planned(config, job.output("store").parent, job.input("images"), found)
    published = checkpoints.header(job.input("autoencoder"))["codec"].get("scaling")
    scaling = numbers(config["scale"], published)
    job.progress.start(sum(part.stop - part.start for part in store.parts), "images")
    write(store, found, imported["scaled"], job.progress.update)
    labels, rows = ({split: getattr(it, name) for split, it in found.items()} for name in ("labels", "rows"))
    finish(store, labels, rows, config["scale"], scaling)
    read = {name: imported[name] for name in ("path", "test")}
    job.write_receipt(images=job.progress.total, holds=store.holds, parts=len(store.parts), imported=read)


if __name__ == "__main__":
    run(main)
