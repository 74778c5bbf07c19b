"""How good the samples of one checkpoint are: Frechet distance, precision, recall against the reference."""

import numpy as np
import torch

from diffprobe.evaluation import extractors
from diffprobe.evaluation.distances import REFERENCE, SUBSET, compare, measure
from diffprobe.runtime.files import write_json
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    config = job.config
    extractor = extractors.make(config["extractor"], job.inputs.get("weights"), job.device)
    reference = np.load(job.input("reference"))
    samples = torch.from_numpy(np.load(job.input("samples"))["arr_0"])  # uint8 (N, H, W, C)
    job.progress.start(len(samples), "images")
    moments, features = measure(extractor, samples, SUBSET, job.device, job.progress.update)
    common = {**config["row"], "split": "+".join(REFERENCE), "images": moments.n}
    figures = compare(extractor.name, reference, moments, features, config["neighbours"])
    rows = [{**common, "evaluator": name, "value": value} for name, value in figures.items()]
    write_json(job.output("rows"), {"rows": rows})
    job.write_receipt(
        extractor=extractor.name,
        weights=extractor.weights,
        reference_images=int(reference["n"]),
        images=moments.n,
    )


if __name__ == "__main__":
    run(main)
