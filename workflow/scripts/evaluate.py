"""`test`, read once by one evaluator: refitted on train + select at the chosen cell, fresh noise for each seed."""

from diffprobe.data import images
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation.representation.grid import evaluate, only_setting, refuse_missing_classes
from diffprobe.evaluation.representation.selection import seen, stored_as
from diffprobe.evaluation.representation.table import Source
from diffprobe.runtime.files import read_json, write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config, evaluator, seeds = job.config, job.config["evaluator"], job.config["seeds"]
    choice, store = read_json(job.input("choice")), job.input("store").parent
    labels = {split: images.labels(job.input("images"), split) for split in SPLITS}
    names = images.describe(job.input("images"))["classes"]
    refuse_missing_classes(labels, names)
    cells = stored_as(seen(evaluator, (choice["level"], choice["tap"])), evaluator)
    source = Source({level: store for level, _ in cells}, labels, bool(config["augmented"]), config["draws"])
    options = {"classes": len(names), "memory": config["memory"], "device": job.device}
    job.progress.start(2, "fits")
    setting = choice["setting"] if config["name"] == choice["scorer"] else only_setting(evaluator)
    if setting is None:  # the best on what the choice was made on, as the layer was
        setting = evaluate(evaluator, source, cells, seeds, config["fit"], config["read"], **options).setting
    job.progress.update(1)
    found = evaluate(evaluator, source, cells, seeds, ["train", "select"], "test", setting, **options)
    job.progress.update(2)
    common = {**config["row"], **config["about"], "split": "test", "kimg": choice["kimg"]}
    common |= {"tap": choice["tap"], "sigma": choice["sigma"]}
    known = {"confusion": found.confusion, "classes": list(map(str, names)), "accuracies": found.accuracies}
    write_json(job.output("rows"), {"rows": found.rows(config["name"], common), **known})
    job.write_receipt(images=len(labels["test"]), setting=found.setting, accuracies=found.accuracies)


if __name__ == "__main__":
    run(main)
