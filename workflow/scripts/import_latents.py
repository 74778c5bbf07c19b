"""Import latents that another system encoded into a store of latents.

Config: `latents.settings.ImportSettings`. Inputs: images, autoencoder. Options: folder and test, the paths.
A resumed job keeps the parts that are complete.
"""

from diffprobe.runtime.job import Job, run

from pydantic import TypeAdapter

from diffprobe.config.latents import Peers
from diffprobe.interop.latents.importing import open_placed, plan_import, write
from diffprobe.latents.completion import finish
from diffprobe.latents.identity import configured_scaling
from diffprobe.latents.settings import ImportSettings
from diffprobe.runtime.errors import UserError
from diffprobe.training import checkpoints


def main(job: Job) -> None:
    settings = ImportSettings.model_validate(job.config)
    source = {"path": job.options["folder"], "test": job.options.get("test")}
    peers = TypeAdapter(Peers).validate_python(settings.imported.model_dump() | source)
    placed = open_placed(peers, job.input("images"), settings.shape)
    if settings.probing and "test" not in placed:
        remedy = "set latents.NAME.imported.test, or remove the probe"
        raise UserError(f"{peers.path}: no latents of test, which a probe needs; {remedy}")
    plan = plan_import(settings, job.output("store").parent, job.input("images"), placed)
    published = checkpoints.header(job.input("autoencoder"))["codec"].get("scaling")
    scaling = configured_scaling(settings.scale, published)
    job.progress.start(sum(part.rows for part in plan.parts), "images")
    write(plan, placed, peers.scaled, job.progress.update)
    labels, rows = ({split: getattr(own, name) for split, own in placed.items()} for name in ("labels", "rows"))
    finish(plan, labels, rows, settings.scale, scaling)
    job.write_receipt(images=job.progress.total, holds=plan.holds, parts=len(plan.parts), imported=source)


if __name__ == "__main__":
    run(main)
