"""The final score of one evaluator on `test`: refitted on train + select at the chosen cell, with new noise per seed.

Config: `plan.probe_arguments.EvaluateArgument`. Inputs: choice; store (the chosen features); images. Output: rows.
Option: autosave, in seconds.
"""

from diffprobe.runtime.job import Job, run

from diffprobe.data import images
from diffprobe.data.splits import SPLITS
from diffprobe.evaluation.representation.grid import ProbeData, evaluate, refuse_missing_classes, result_rows
from diffprobe.evaluation.representation.table import StoredFeatures
from diffprobe.plan.probe_arguments import Choice, EvaluateArgument
from diffprobe.runtime.files import write_json
from diffprobe.runtime.results import read_result


def main(job: Job) -> None:
    with job.autosaved("rows"):
        score_on_test(job)


def score_on_test(job: Job) -> None:
    argument = EvaluateArgument.model_validate(job.config)
    evaluator, seeds = argument.head, argument.seeds
    choice = read_result(job.input("store"), lambda features: Choice.model_validate(features["choice"]))
    store = job.input("store").parent
    labels = {split: images.labels(job.input("images"), split) for split in SPLITS}
    names = images.describe(job.input("images"))["classes"]
    refuse_missing_classes(labels, names)
    cells = evaluator.selection.arrays(choice.cell)
    folders = {level: store for level, _ in cells}
    features = StoredFeatures(folders, labels, bool(argument.augmented), fresh=argument.draws)
    data = ProbeData(features, len(names), argument.memory, job.device)
    job.progress.start(2, "fits")
    columns = choice.columns(evaluator.selection)  # of each evaluation
    only = choice.setting if evaluator.name == choice.scorer else evaluator.settings.only_setting
    count = len(columns) * len(evaluator.settings.few_labels)
    settings = [only] * count if only is not None else None
    if settings is None:  # the best on the split on which the layer was chosen
        scores = evaluate(data, evaluator.settings, cells, seeds, argument.fit, argument.read)
        settings = [one.setting for one in scores]
    job.progress.update(1)
    # The single read of `test`.
    scores = evaluate(data, evaluator.settings, cells, seeds, ["train", "select"], "test", settings)
    job.progress.update(2)
    common = {**argument.row, **argument.about, "split": "test", "kimg": choice.kimg}
    rows = result_rows(evaluator.name, scores, columns, common)
    several = "levels" if evaluator.selection.levels else "labels" if count > 1 else None
    details = [{"confusion": one.confusion, "accuracies": one.accuracies} for one in scores]
    each = {several: details} if several else details[0]
    write_json(job.output("rows"), {"rows": rows, "classes": list(map(str, names)), **each})
    settled = [{"setting": one.setting, "accuracies": one.accuracies} for one in scores]
    each = {several: settled} if several else settled[0]
    job.write_receipt(images=len(labels["test"]), **each)


if __name__ == "__main__":
    run(main)
