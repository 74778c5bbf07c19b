"""Features of a dataset by an extractor, of every image as it is, in the form of those of a chosen cell.

Config: `plan.probe_arguments.ExtractedArgument`. Inputs: images; weights of the extractor. Output: store.
Option: batch.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.data.fingerprint import fingerprint
from diffprobe.data.splits import SPLITS
from diffprobe.diffusion.levels import CLEAN
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.representation.extracted import ExtractedFeatures
from diffprobe.evaluation.representation.featurestore import Copies, finish, images_in_all, write_level
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.plan.probe_arguments import ExtractedArgument
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.files import clear_partials, digest


def main(job: Job) -> None:
    argument = ExtractedArgument.model_validate(job.config)
    extractor = extractors.make(argument.extractor, job.optional("weights"), job.device)
    source = ExtractedFeatures(extractor, int(job.options["batch"]))
    data = open_inputs(job.input("images"), SPLITS, job.device, None)
    copies = [Copies(split, "identity", 1) for split in SPLITS]
    origin = {"extractor": extractor.identity, "data": fingerprint([job.inputs["images"]]), "code": code_version()}
    folder = job.output("store").parent
    unfinished = folder.with_name(f"{folder.name}.partial")
    clear_partials(unfinished / "x.zarr")
    job.progress.start(images_in_all(copies, data), "images")

    def report(done: int) -> None:
        job.progress.update(job.progress.done + done)

    specs = {argument.name: (argument.name, "mean")}
    path = unfinished / f"{CLEAN.name}.zarr"
    content = write_level(path, source, data, CLEAN, specs, copies, digest(origin), report)
    cell = {"kimg": None, "tap": argument.name, "level": CLEAN.name, "sigma": CLEAN.sigma, "scorer": "", "setting": {}}
    finish(unfinished, folder, [CLEAN], {"config": job.config, "choice": cell, "content": content})
    job.write_receipt(images=job.progress.done, extractor=extractor.identity)


if __name__ == "__main__":
    run(main)
