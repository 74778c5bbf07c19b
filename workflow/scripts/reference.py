"""A dataset's reference statistics under one extractor: over the images that generators may see."""

import numpy as np
import torch

from diffprobe.data import images
from diffprobe.evaluation import extractors
from diffprobe.evaluation.distances import REFERENCE, SUBSET, measure
from diffprobe.runtime.files import atomic
from diffprobe.runtime.job import Job, run


def main(job: Job) -> None:
    extractor = extractors.make(job.config, job.inputs.get("weights"), job.device)
    data = images.read(job.input("images"), REFERENCE)
    job.progress.start(len(data.images), "images")
    moments, features = measure(extractor, torch.from_numpy(data.images), SUBSET, job.device, job.progress.update)
    with atomic(job.output("reference")) as partial:
        np.savez(
            partial,
            mu=moments.mu,
            sigma=moments.sigma,
            n=moments.n,
            features=features,
            extractor=extractor.name,
            weights=extractor.weights,
        )
    job.write_receipt(images=moments.n, extractor=extractor.name, weights=extractor.weights)


if __name__ == "__main__":
    run(main)
