"""Complete a store of latents: add labels, rows and scaling, then the manifest.

Config: `plan.arguments.ScaleArgument`. Inputs: encoded.N, the outputs of the encoding jobs; images; autoencoder.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.data import images
from diffprobe.latents.completion import finish
from diffprobe.latents.encoding import split_arrays
from diffprobe.latents.identity import configured_scaling
from diffprobe.latents.parts import StorePlan, missing_parts
from diffprobe.latents.verify import remove_parts
from diffprobe.plan.arguments import ScaleArgument
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.results import read_result
from diffprobe.training import checkpoints


def main(job: Job) -> None:
    records = [read_result(path, lambda encoded: encoded["store"]) for path in job.group("encoded")]
    for path, record in zip(job.group("encoded"), records, strict=True):
        if record != records[0]:
            differs = f"{path}: encoded differently from {job.group('encoded')[0].name}, perhaps on a CPU beside GPUs"
            raise UserError(f"{differs}; set latents.NAME.precision, delete the folder and run again")
    plan = StorePlan(job.output("store").parent, **records[0])
    if lost := missing_parts(plan):
        # Their jobs count as done. Removing their outputs makes the next run encode only these parts.
        remove_parts(plan.path, lost)
        raise UserError(f"{plan.path}: {len(lost)} parts are missing, the first is {lost[0].name}; run again")
    published = checkpoints.header(job.input("autoencoder"))["codec"].get("scaling")
    with images.open_store(job.input("images")) as file:
        labels, rows = split_arrays(file, list(plan.counts))
    scale = ScaleArgument.model_validate(job.config).scale
    finish(plan, labels, rows, scale, configured_scaling(scale, published))
    job.write_receipt(images=sum(part.rows for part in plan.parts), parts=len(plan.parts))


if __name__ == "__main__":
    run(main)
