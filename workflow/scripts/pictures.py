"""What pictures of features show: principal components of a few `test` images' features at every position, and a plane
of many images by t-SNE, at the chosen level by the chosen checkpoint.

Config: `plan.arguments.PicturesArgument`. Inputs: store (the chosen features); weights.0, weights.1, ... of the
checkpoints; data (images or latents); images. Output: pictures. Option: batch.
"""

from collections.abc import Sequence

from diffprobe.runtime.job import Job, run

import numpy as np
import torch

from diffprobe.data import images
from diffprobe.data.hdf5 import open_store
from diffprobe.data.pixels import to_float
from diffprobe.diffusion.levels import Level
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.chunks import REMEDY, array
from diffprobe.evaluation.representation.components import components, plane
from diffprobe.evaluation.representation.features import FeatureModel, Pass
from diffprobe.evaluation.representation.inputs import only, open_inputs, picked
from diffprobe.plan.probe_arguments import Choice, PicturesArgument
from diffprobe.runtime.arrays import read_array
from diffprobe.runtime.files import atomic
from diffprobe.runtime.keyed import Key, normal, permutation
from diffprobe.runtime.results import read_result

LAYERS = 5  # layers in the maps, spread over the network, besides the chosen one
ORDER = Key(0, "images in pictures of features")
PURPOSE = "chosen"  # keys the noise as that of the chosen features, whose first copy is in the maps


def main(job: Job) -> None:
    argument = PicturesArgument.model_validate(job.config)
    choice = read_result(job.input("store"), lambda features: Choice.model_validate(features["choice"]))
    labels = images.labels(job.input("images"), "test")
    job.progress.start(2, "pictures")
    maps = component_maps(job, argument, choice, labels)
    job.progress.update(1)
    stored = array(job.input("store").parent, choice.level, "test", "identity", choice.tap)  # (draws, N, D)
    places = picked(len(labels), argument.points)
    copies = [read_array(stored, REMEDY, draw)[places].astype(np.float64) for draw in range(stored.shape[0])]
    points = plane(np.mean(copies, axis=0), argument.perplexity)
    job.progress.update(2)
    with atomic(job.output("pictures")) as partial:
        np.savez(
            partial,
            **maps,
            classes=np.array(images.describe(job.input("images"))["classes"], str),
            level=choice.level,
            chosen=choice.tap,
            kimg=np.array(choice.kimg),
            plane=points,  # float32 (N, 2)
            plane_labels=labels[places],
            plane_places=places,  # in `test`
        )
    job.write_receipt(images=len(places))


def component_maps(job: Job, argument: PicturesArgument, choice: Choice, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Images, with noise too where the model sees pixels, and of each layer the components: `map/TAP` (n, h, w, 3)."""
    weights = choice.of(argument.checkpoints, job.group("weights"))
    trained = model.load(weights, job.device, weights=argument.weights.name)
    source = FeatureModel.of(trained, argument, int(job.options["batch"]), job.device)
    level = trained.level(choice.sigma)
    taps = shown_taps(argument.taps_at(choice.sigma), choice.tap)
    places = in_turn(labels, argument.images)
    inputs = open_inputs(job.input("data"), ["test"], job.device, trained.latents, None, argument.latents_as)["test"]
    data = only(inputs, places)
    specs = {tap: (tap, "map") for tap in taps}
    source = source.bounded(source.image_flops(trained.shape, level, specs))
    blocks = [features for _, features in source.blocks(data, Pass(level, specs, PURPOSE, 0))]
    with open_store(job.input("images")) as file:
        pixels = images.gather(file, data.rows)  # uint8 (n, H, W, C)
    maps = {"taps": np.array(taps), "images": pixels, "labels": labels[places], "rows": data.rows}
    if trained.latents is None and level.sigma and source.noisy:
        maps["noisy"] = with_noise(pixels, data.rows, level, argument.noise_seed)
    for tap in taps:
        tapped = torch.cat([block[tap] for block in blocks])  # (n, D, h, w), or vectors (n, D) of one position
        features = tapped.reshape(*tapped.shape[:2], *(tapped.shape[2:] or (1, 1))).permute(0, 2, 3, 1).cpu().numpy()
        principal = components(features.reshape(-1, features.shape[-1]), 3)
        maps[f"map/{tap}"] = principal.values.reshape(*features.shape[:3], 3).astype(np.float32)
        maps[f"shares/{tap}"] = principal.shares
    return maps


def with_noise(pixels: np.ndarray, rows: np.ndarray, level: Level, seed: int) -> np.ndarray:
    """Images uint8 (n, H, W, C) as the model saw them, at the scale of the image: x + sigma/alpha n, clipped."""
    x = to_float(torch.from_numpy(pixels))  # (n, C, H, W)
    noise = normal(Key(seed, f"{PURPOSE}/{level.name}"), torch.from_numpy(rows), tuple(x.shape[1:]), 0)
    noisy = ((x + level.ratio * noise).clamp(-1, 1) + 1) * 127.5
    return noisy.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def shown_taps(taps: Sequence[str], chosen: str) -> list[str]:
    """The chosen layer and at most LAYERS others, evenly spread, in the order of computation."""
    others = [tap for tap in taps if tap != chosen]
    spread = np.linspace(0, len(others) - 1, min(LAYERS, len(others))).round().astype(int)
    shown = {chosen, *(others[i] for i in spread)}
    return [tap for tap in taps if tap in shown]


def in_turn(labels: np.ndarray, count: int) -> np.ndarray:
    """Places of `count` images of labels (N,): one of each class in turn, in a fixed random order within a class."""
    order = permutation(ORDER, len(labels)).numpy()
    rounds = np.zeros(len(labels), np.int64)  # how many of its class come before
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rounds[own] = np.arange(len(own))
    return np.lexsort((labels, rounds))[:count]


if __name__ == "__main__":
    run(main)
