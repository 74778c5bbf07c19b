"""Features of every tap at one part of the noise levels of a checkpoint's grid. A resumed job keeps complete levels.

In a search for levels, each level is scored by ridge regression once it is written, and the best are kept. Those of a
fixed subset of images are at the levels that the search has put into the grid.

Config: `plan.probe_arguments.FeaturesArgument`. Inputs: weights; data (images or latents); images, or the grid of a
search. Output: store. Option: batch.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from diffprobe.runtime.job import Job, run

import pandas as pd

from diffprobe.config.evaluators.ridge import Ridge
from diffprobe.config.noise import CLEAN
from diffprobe.data import images
from diffprobe.data.fingerprint import fingerprint
from diffprobe.diffusion.levels import Level
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.featurestore import Copies, finish, images_in_all, without_repeats, write_level
from diffprobe.evaluation.representation.grid import ProbeData, score_level
from diffprobe.evaluation.representation.inputs import open_inputs, subset
from diffprobe.evaluation.representation.search import best, search
from diffprobe.evaluation.representation.table import StoredFeatures
from diffprobe.plan.probe_arguments import FeaturesArgument, SearchPlan
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.devices import peak_flops, report_slow_precision
from diffprobe.runtime.files import clear_partials, digest, sha256
from diffprobe.runtime.results import refuse_changed

SCORER = Ridge(kind="ridge", strength=[1e-4, 1e-3, 1e-2, 1e-1])  # of a search: the fastest evaluator


def wanted_copies(fit_on: list[str], score_on: str, augmented: int, plain: bool, draws: int) -> list[Copies]:
    """Augmented copies, if any, of the splits that evaluators are fitted on. Unaugmented copies of the split that
    scores them, and of the others if kNN needs them or there are no augmented ones.
    """
    copies = [Copies(split, "augmented", augmented) for split in fit_on if augmented]
    unaugmented = [*(fit_on if plain or not augmented else []), score_on]
    return [*copies, *(Copies(split, "identity", draws) for split in unaugmented)]


def main(job: Job) -> None:
    device, settings = job.device, FeaturesArgument.model_validate(job.config)
    trained = model.load(job.input("weights"), device, weights=settings.weights.name)
    source = FeatureModel.of(trained, settings, int(job.options["batch"]), device)
    report_slow_precision(settings.precision, device, job.say)
    splits = [*settings.fit, settings.read]
    views = settings.augmentation, settings.latents_as
    data = open_inputs(job.input("data"), splits, device, trained.latents, *views, mirrored=settings.mirrored)
    if settings.images:
        data[settings.read] = subset(data[settings.read], settings.images)
    planned = grid_ratios(job.input("grid")) if "grid" in job.inputs else settings.levels
    copies = wanted_copies(settings.fit, settings.read, settings.augmented, settings.plain, settings.draws)
    origin = {"config": job.config, "weights": sha256(job.input("weights")), "data": fingerprint([job.inputs["data"]])}
    identity = digest(origin | {"code": code_version()})
    folder = job.output("store")
    unfinished = folder.with_name(f"{folder.name}.partial")  # Snakemake deletes the output of a restarted job
    clear_partials(unfinished / "x.zarr")
    contents: dict[str, str] = {}

    def specs_of(level: Level) -> dict[str, tuple[str, str]]:
        return {tap: (tap, settings.pooling) for tap in settings.taps_at(level.ratio)}

    # Of an image the work is the same at all levels with noise.
    counts: Counter[Level] = Counter()
    for ratio in planned_ratios(planned):
        level = trained.level(1.0 if ratio else CLEAN)
        counts[level] += images_in_all(without_repeats(copies, source, level, data), data)
    costs = {level: source.image_flops(trained.shape, level, specs_of(level)) for level in counts}
    flops = sum(count * costs[level] for level, count in counts.items())
    source = source.bounded(max(costs.values(), default=0)).compiled(flops)
    job.progress.compare(lambda: flops / counts.total(), partial(peak_flops, device, source.bf16))
    job.progress.start(counts.total(), "images")

    def write(level: Level) -> None:
        def report(done: int) -> None:
            job.progress.update(job.progress.done + done, level.title)

        path = unfinished / f"{level.name}.zarr"
        at = level, specs_of(level), without_repeats(copies, source, level, data)
        contents[level.name] = write_level(path, source, data, *at, identity, report)

    if isinstance(planned, SearchPlan):
        ratios = search_levels(job, settings, planned, unfinished, write, trained.level)
    else:
        ratios = planned
        for ratio in ratios:
            write(trained.level(ratio))
    levels = [trained.level(ratio) for ratio in ratios]
    contents = {level.name: contents[level.name] for level in levels}  # a search drops the others
    finish(unfinished, folder, levels, {"config": job.config, "content": digest(contents)})
    job.write_receipt(images=job.progress.done, images_per_second=round(job.progress.rate, 1))


def grid_ratios(grid: Path) -> list[float]:
    """sigma/alpha of the levels of a grid."""
    refuse_changed(grid)
    return pd.read_csv(grid)["sigma"].drop_duplicates().tolist()


def planned_ratios(planned: list[float] | SearchPlan) -> list[float]:
    """sigma/alpha of as many levels as are computed; where those of a search will be is not known yet."""
    return [planned.high] * (planned.coarse + 2 * planned.rounds) if isinstance(planned, SearchPlan) else planned


def search_levels(
    job: Job,
    settings: FeaturesArgument,
    plan: SearchPlan,
    folder: Path,
    write: Callable[[Level], None],
    level_of: Callable[[float], Level],
) -> list[float]:
    """The best levels of a search, as sigma/alpha; a level's score is that of its best tap. Logs every level."""
    store = job.input("images")
    labels = {split: images.labels(store, split) for split in (*settings.fit, settings.read)}
    classes = len(images.describe(store)["classes"])

    def score(ratio: float) -> float:
        level = level_of(ratio)
        write(level)
        features = StoredFeatures({level.name: folder}, labels, bool(settings.augmented))
        data = ProbeData(features, classes, settings.memory, job.device)
        scores = score_level(data, level.name, settings.taps_at(ratio), SCORER, 0, settings.fit, settings.read)
        accuracy = float(scores["accuracy"].max())
        job.say(f"{level.title}: {accuracy:.2%} of {settings.read} by ridge regression")
        return accuracy

    return best(search(plan, lambda ratio: level_of(ratio).ratio, score), plan.keep)


if __name__ == "__main__":
    run(main)
