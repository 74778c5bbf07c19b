"""Features of the chosen cell and of those that evaluators join to it, of all splits, fresh noise for each seed."""

from diffprobe.data.fingerprint import fingerprint
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.features import extractor
from diffprobe.evaluation.representation.featurestore import Copies, finish, write_level
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.evaluation.representation.selection import seen, stored_as
from diffprobe.runtime.files import clear_partials, digest, read_json, sha256
from diffprobe.runtime.job import Job, run
from diffprobe.runtime.receipts import code_version


def main(job: Job) -> None:
    device, config = job.device, job.config
    choice = read_json(job.input("choice"))
    checkpoints = dict(zip(config["checkpoints"], job.group("weights"), strict=True))
    weights = checkpoints[choice["kimg"]]
    trained = model.load(weights, device, weights=config["weights"]["name"])
    source = extractor(trained, config, int(job.options["batch"]), device)
    data = open_inputs(job.input("data"), SPLITS, device, trained.latents, config["crop"], config["latents_as"])
    wanted = cells(config, choice)
    levels = {level.name: level for level in map(trained.process.level, [choice["sigma"], *config["sigmas"]])}
    # A draw of its own for every seed; of `test` never an augmented one.
    copies = [Copies(split, "identity", config["draws"] * len(config["seeds"])) for split in SPLITS]
    copies += [Copies(split, "augmented", config["augmented"]) for split in SPLITS[:2] if config["augmented"]]
    known = {"config": config, "weights": sha256(weights), "choice": choice, "code": code_version()}
    known["data"] = fingerprint([job.inputs["data"]])
    folder = job.output("store").parent
    unfinished = folder.with_name(f"{folder.name}.partial")
    clear_partials(unfinished / "x.zarr")
    total = len(wanted) * sum(copy.draws * len(data[copy.split].rows) for copy in copies)
    job.progress.start(total, "images")

    def report(done: int) -> None:
        job.progress.update(job.progress.done + done)

    contents = {
        name: write_level(
            unfinished / f"{name}.zarr",
            source,
            data,
            levels[name],
            taps,
            copies,
            digest(known),
            report,
            purpose="chosen",  # never the noise that the choice was made with
        )
        for name, taps in wanted.items()
    }
    marks = {"config": config, "choice": choice, "content": digest(contents)}
    finish(unfinished, folder, [levels[name] for name in wanted], marks)
    job.write_receipt(images=job.progress.done, images_per_second=round(job.progress.rate, 1))


def cells(config: dict, choice: dict) -> dict[str, dict[str, tuple[str, str]]]:
    """What is wanted of each level, by name: array to (tap, pooling)."""
    wanted: dict[str, dict[str, tuple[str, str]]] = {}
    for evaluator in config["evaluators"]:
        found = seen(evaluator, (choice["level"], choice["tap"]))
        pooling = "tokens" if evaluator["tokens"] else config["pooling"]
        for (level, tap), (_, name) in zip(found, stored_as(found, evaluator), strict=True):
            wanted.setdefault(level, {})[name] = (tap, pooling)
    return wanted


if __name__ == "__main__":
    run(main)
