"""A store of latents completed: labels, rows, the scale, last the mark. Config: scale. Inputs: encoded.N, what the jobs
that encoded it have written; images; autoencoder.
"""

from diffprobe.data import images
from diffprobe.latents.completion import finish
from diffprobe.latents.encoding import split_arrays
from diffprobe.latents.identity import numbers
from diffprobe.latents.parts import Store, missing
from diffprobe.latents.verify import Problem, repair
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json
from diffprobe.runtime.job import Job, run
from diffprobe.training import checkpoints


def main(job: Job) -> None:
    plans = [read_json(path)["store"] for path in job.group("encoded")]
    for path, plan in zip(job.group("encoded"), plans, strict=True):
        if plan != plans[0]:
            differs = f"{path}: encoded otherwise than {job.group('encoded')[0].name}, perhaps on a CPU beside GPUs"
            raise UserError(f"{differs}; set latents.NAME.precision, delete the folder and run again")
    store = Store(job.output("store").parent, **plans[0])
    if lost := missing(store):
        # Their jobs count as done: take their word back, so that running again makes just these.
        repair(store.path, [Problem(part.name, part) for part in lost])
        raise UserError(f"{store.path}: {len(lost)} parts are gone, the first is {lost[0].name}; run again")
    published = checkpoints.header(job.input("autoencoder"))["codec"].get("scaling")
    with images.open_store(job.input("images")) as file:
        labels, rows = split_arrays(file, list(store.counts))
    finish(store, labels, rows, job.config["scale"], numbers(job.config["scale"], published))
    job.write_receipt(images=sum(part.stop - part.start for part in store.parts), parts=len(store.parts))


if __name__ == "__main__":
    run(main)
