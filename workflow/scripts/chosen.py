"""Features of the chosen cell and of those that evaluators join to it, of all splits, with fresh noise for each seed.

Config: `plan.probe_arguments.ChosenArgument`.
Inputs: choice; weights.0, weights.1, ... of the checkpoints; data (images or latents); latents, those that the model
was trained on, if the data are another dataset's. Output: store. Option: batch.
"""

from collections.abc import Sequence
from functools import partial

from diffprobe.runtime.job import Job, run

from diffprobe.data.fingerprint import fingerprint
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.featurestore import Copies, finish, images_in_all, without_repeats, write_level
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.plan.probe_arguments import Cell, CellSelection, Choice, ChosenArgument
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.devices import peak_flops, report_slow_precision
from diffprobe.runtime.files import clear_partials, digest, sha256
from diffprobe.runtime.results import read_result


def main(job: Job) -> None:
    device, settings = job.device, ChosenArgument.model_validate(job.config)
    choice = read_result(job.input("choice"), Choice.model_validate)
    recorded = read_result(job.input("choice"), dict)  # with what only people read
    weights = choice.of(settings.checkpoints, job.group("weights"))
    trained = model.load(weights, device, weights=settings.weights.name)
    source = FeatureModel.of(trained, settings, int(job.options["batch"]), device)
    report_slow_precision(settings.precision, device, job.say)
    views = settings.augmentation, settings.latents_as
    data = open_inputs(
        job.input("data"),
        SPLITS,
        device,
        trained.latents,
        *views,
        trained.image,
        job.optional("latents"),
        settings.mirrored,
    )
    specs_of = specs_by_level(settings.evaluators, choice.cell, settings.pooling)
    levels = {level.name: level for level in map(trained.level, [choice.sigma, *settings.sigmas])}
    # Every seed gets its own noisy copies. `test` is never augmented.
    copies = [Copies(split, "identity", settings.draws * len(settings.seeds)) for split in SPLITS]
    copies += [Copies(split, "augmented", settings.augmented) for split in SPLITS[:2] if settings.augmented]
    copies_of = {name: without_repeats(copies, source, levels[name], data) for name in specs_of}
    origin = {"config": job.config, "weights": sha256(weights), "choice": recorded, "code": code_version()}
    identity = digest(origin | {"data": fingerprint([job.inputs["data"]])})
    folder = job.output("store").parent
    unfinished = folder.with_name(f"{folder.name}.partial")
    clear_partials(unfinished / "x.zarr")
    total = sum(images_in_all(copies_of[name], data) for name in specs_of)
    name, specs = next(iter(specs_of.items()))
    flops = source.image_flops(trained.shape, levels[name], specs)
    source = source.bounded(flops).compiled(total * flops)
    job.progress.compare(lambda: flops, partial(peak_flops, device, source.bf16))
    job.progress.start(total, "images")

    def report(done: int) -> None:
        job.progress.update(job.progress.done + done)

    contents = {}
    for name, specs in specs_of.items():
        path = unfinished / f"{name}.zarr"
        # The purpose "chosen" keys the noise, so it differs from the noise that the choice was based on.
        at = levels[name], specs, copies_of[name]
        contents[name] = write_level(path, source, data, *at, identity, report, "chosen")
    marks = {"config": job.config, "choice": recorded, "content": digest(contents)}
    finish(unfinished, folder, [levels[name] for name in specs_of], marks)
    job.write_receipt(images=job.progress.done, images_per_second=round(job.progress.rate, 1))


def specs_by_level(
    selections: Sequence[CellSelection], chosen: Cell, pooling: str
) -> dict[str, dict[str, tuple[str, str]]]:
    """The arrays of each level that the evaluators need: array to (tap, pooling), by the level's name."""
    specs: dict[str, dict[str, tuple[str, str]]] = {}
    for selection in selections:
        for (level, tap), (_, name) in zip(selection.cells(chosen), selection.arrays(chosen), strict=True):
            specs.setdefault(level, {})[name] = (tap, "tokens" if selection.tokens else pooling)
    return specs


if __name__ == "__main__":
    run(main)
