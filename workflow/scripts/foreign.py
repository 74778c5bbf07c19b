"""The features that an extractor has of a fixed subset of a dataset's images, as monitors compare with.

Config: `plan.probe_arguments.ForeignArgument`. Inputs: images; weights of the extractor. Output: features.
Options: batch;
autosave, in seconds.
"""

from diffprobe.runtime.job import Job, run

import numpy as np
import torch

from diffprobe.data.imagesets import open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.representation.inputs import picked
from diffprobe.plan.probe_arguments import ForeignArgument
from diffprobe.runtime import autosave
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic


def main(job: Job) -> None:
    argument = ForeignArgument.model_validate(job.config)
    extractor = extractors.make(argument.extractor, job.optional("weights"), job.device)
    images = open_images(job.input("images"), splits=[argument.split])
    chosen = picked(images.n, argument.images)
    batches = np.array_split(chosen, -(-len(chosen) // int(job.options["batch"])))
    job.progress.start(len(chosen), "images")

    def pooled(rows: np.ndarray) -> dict[str, torch.Tensor]:
        pixels = np.concatenate([images.read(row, row + 1) for row in rows.tolist()])
        return {"features": extractor.apply(torch.from_numpy(pixels)).pooled.cpu()}

    with job.autosaved("features"):
        parts = []
        for part in autosave.each(batches, pooled):
            parts.append(part["features"])
            job.progress.update(job.progress.done + len(parts[-1]))
        features = torch.cat(parts)  # (n, F)
        if not features.isfinite().all():
            raise UserError(f"{extractor.name} has features that are not finite: check its weights and its input")
        with atomic(job.output("features")) as partial:
            np.savez(partial, features=features.numpy())
    job.write_receipt(images=len(chosen), extractor=extractor.identity)


if __name__ == "__main__":
    run(main)
