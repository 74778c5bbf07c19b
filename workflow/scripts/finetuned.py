"""Scores of fine-tuned models: of one for each learning rate, of which the best is taken; or on `test`, of one for
each seed.

Config: `plan.probe_arguments.FinetunedArgument`. Inputs: choice; images; data (images or latents); run.0, run.1, ...
(checkpoints by learning rate or by seed); setting, where several learning rates were tried. Output: rows. Options:
batch; autosave, in seconds.
"""

from diffprobe.runtime.job import Job, run

import torch

from diffprobe.data import images
from diffprobe.evaluation.representation.finetuned import Classifier, joined, score
from diffprobe.evaluation.representation.grid import evaluations, refuse_missing_classes
from diffprobe.evaluation.representation.inputs import open_inputs
from diffprobe.plan.probe_arguments import Choice, FinetunedArgument
from diffprobe.runtime.files import write_json
from diffprobe.runtime.results import read_result


def main(job: Job) -> None:
    argument, device = FinetunedArgument.model_validate(job.config), job.device
    choice = read_result(job.input("choice"), Choice.model_validate)
    labels = images.labels(job.input("images"), argument.read)
    names = images.describe(job.input("images"))["classes"]
    refuse_missing_classes({argument.read: labels}, names)
    checkpoints = job.group("run")
    job.progress.start(len(labels) * len(checkpoints), "images")
    scores = []

    def report(done: int) -> None:
        job.progress.update(job.progress.done + done)

    with job.autosaved("rows"):
        for number, path in enumerate(checkpoints):
            classifier = Classifier.load(path, argument.noise_seed, argument.precision, device)
            data = open_inputs(
                job.input("data"), [argument.read], device, classifier.latents, None, argument.latents_as
            )
            first = 0 if argument.choosing else argument.draws * number  # every seed has noise of its own
            draws = range(first, first + argument.draws)
            at = data[argument.read], torch.from_numpy(labels), draws
            scores.append(score(classifier, *at, argument.average, int(job.options["batch"]), report))
        rates = argument.rates
        if setting := job.optional("setting"):
            rates = [read_result(setting, lambda entry: float(entry["setting"]["lr"]))]
        together = joined(scores, "settings" if argument.choosing else "seeds")
        (best,) = evaluations(together, [{"lr": lr} for lr in rates], len(names))
        common = {**argument.row, **argument.about, "split": argument.split, "kimg": choice.kimg}
        (columns,) = choice.columns(argument.selection)
        common |= columns | ({"sigma": 0.0} if not classifier.sight.noisy else {})
        tried = [
            {"lr": lr, "accuracy": float(a)} for lr, a in zip(rates, together.accuracy.mean((0, 1, 2)), strict=True)
        ]
        details = {"confusion": best.confusion, "classes": list(map(str, names)), "accuracies": best.accuracies}
        rows = best.rows(argument.name, common)
        write_json(job.output("rows"), {"rows": rows, **details, "setting": best.setting, "tried": tried})
    job.write_receipt(images=len(labels), setting=best.setting, accuracies=best.accuracies)


if __name__ == "__main__":
    run(main)
