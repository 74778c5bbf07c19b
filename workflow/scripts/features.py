"""Features of every tap at the levels of one part of a checkpoint's grid, resumed by level. Where the levels are
searched for, each is scored by ridge regression as it is made, and the best stay.
"""

from pathlib import Path

from diffprobe.data import images
from diffprobe.data.fingerprint import fingerprint
from diffprobe.diffusion.levels import Level
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.features import extractor
from diffprobe.evaluation.representation.featurestore import Copies, finish, write_level
from diffprobe.evaluation.representation.grid import score_level
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.evaluation.representation.search import best, search
from diffprobe.evaluation.representation.table import Source
from diffprobe.runtime.files import clear_partials, digest, sha256
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.receipts import code_version

RIDGE = {"kind": "ridge", "strength": [1e-4, 1e-3, 1e-2, 1e-1], "average": True}  # what a search scores by


def copies(config: dict) -> list[Copies]:
    """Of the images that heads are fitted on augmented ones, where any are asked for; un-augmented ones of those that
    they are read on, and of the others for what compares with these (kNN) or where there are no augmented ones.
    """
    out = [Copies(split, "augmented", config["augmented"]) for split in config["fit"] if config["augmented"]]
    plain = [*(config["fit"] if config["plain"] or not config["augmented"] else []), config["read"]]
    return [*out, *(Copies(split, "identity", config["draws"]) for split in plain)]


def main(job: Job) -> None:
    device, config = job.device, job.config
    trained = model.load(job.input("weights"), device, weights=config["weights"]["name"])
    source = extractor(trained, config, int(job.options["batch"]), device)
    splits, how = [*config["fit"], config["read"]], (config["crop"], config["latents_as"])
    data = open_inputs(job.input("data"), splits, device, trained.latents, *how)
    asked, wanted = copies(config), {tap: (tap, config["pooling"]) for tap in config["taps"]}
    known = {"config": config, "weights": sha256(job.input("weights")), "data": fingerprint([job.inputs["data"]])}
    identity = digest(known | {"code": code_version()})
    folder = job.output("store")
    unfinished = folder.with_name(f"{folder.name}.partial")  # beside the output, which Snakemake removes at a new start
    clear_partials(unfinished / "x.zarr")
    per_level = sum(copy.draws * len(data[copy.split].rows) for copy in asked)
    contents: dict[str, str] = {}

    def make(level: Level) -> None:
        def report(done: int) -> None:
            job.progress.update(job.progress.done + done, f"sigma {level.name}")

        path = unfinished / f"{level.name}.zarr"
        contents[level.name] = write_level(path, source, data, level, wanted, asked, identity, report)

    if isinstance(config["levels"], dict):
        plan = config["levels"]
        job.progress.start((plan["coarse"] + 2 * plan["rounds"]) * per_level, "images")
        ratios = searched(job, unfinished, make, trained.process.level)
    else:
        ratios = config["levels"]
        job.progress.start(len(ratios) * per_level, "images")
        for ratio in ratios:
            make(trained.process.level(ratio))
    levels = [trained.process.level(ratio) for ratio in ratios]
    contents = {level.name: contents[level.name] for level in levels}
    finish(unfinished, folder, levels, {"config": config, "content": digest(contents)})
    job.write_receipt(images=job.progress.done, images_per_second=round(job.progress.rate, 1))


def searched(job: Job, folder: Path, make, level_of) -> list[float]:
    """The best levels of a search, each scored by its best tap; what was tried goes into the log."""
    config, store = job.config, job.input("images")
    labels = {split: images.labels(store, split) for split in (*config["fit"], config["read"])}
    options = {"classes": len(images.describe(store)["classes"]), "memory": config["memory"], "device": job.device}

    def score(ratio: float) -> float:
        level = level_of(ratio)
        make(level)
        source = Source({level.name: folder}, labels, bool(config["augmented"]))
        splits = {"fit_on": config["fit"], "read_on": config["read"]}
        found = score_level(source, level.name, config["taps"], RIDGE, 0, **splits, **options)
        right = float(found["accuracy"].max())
        job.say(f"sigma {level.name}: {right:.2%} of {config['read']} by ridge regression")
        return right

    found = search(config["levels"], lambda ratio: level_of(ratio).ratio, score)
    return best(found, config["levels"]["keep"])


if __name__ == "__main__":
    run(main)
