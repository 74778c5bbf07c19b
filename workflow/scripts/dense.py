"""Segmentation of `test` from a few labelled images of `train`, drawn several times: mean IoU by the features of the
chosen cell and those joined to it, and by raw pixels.

Config: `plan.probe_arguments.DenseArgument`. Inputs: choice; images; data (images or latents); weights.0, weights.1,
... of the checkpoints. Outputs: rows, pictures. Options: batch; autosave, in seconds.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from diffprobe.runtime.job import Job, run

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import masks
from diffprobe.data.hdf5 import ImageStore, open_store
from diffprobe.data.pixels import to_uint8
from diffprobe.evaluation import model
from diffprobe.evaluation.representation import dense
from diffprobe.evaluation.representation.dense import Segmenter, few_pixels, labelled
from diffprobe.evaluation.representation.features import FeatureModel
from diffprobe.evaluation.representation.grid import mean_and_spread
from diffprobe.evaluation.representation.inputs import ModelInputs, mask_copy, open_inputs
from diffprobe.evaluation.representation.pixels import FeatureSight, MapCell, RawSight, Sight
from diffprobe.plan.probe_arguments import Choice, DenseArgument
from diffprobe.runtime import autosave
from diffprobe.runtime.devices import report_slow_precision
from diffprobe.runtime.files import atomic, write_json
from diffprobe.runtime.keyed import Key
from diffprobe.runtime.results import read_result

SPLITS = ("train", "test")
SHOWN = 8  # images in the picture
AT_ONCE = 2**26  # bytes of maps of test images held at a time
Segmenters = Mapping[str, list[Segmenter]]  # of each repeat, by the name of what they see


def main(job: Job) -> None:
    argument = DenseArgument.model_validate(job.config)
    settings, choice = argument.settings, read_result(job.input("choice"), Choice.model_validate)
    names = masks.names(job.input("images"))
    images = open_inputs(job.input("images"), SPLITS, job.device, None, argument.crop)
    with open_store(job.input("images")) as store, job.autosaved("rows"):
        sights = open_sights(job, argument, choice, images, store.shape[1])
        job.progress.start(len(sights) * settings.repeats * settings.steps, "steps")
        draws = [labelled(len(images["train"].rows), settings.images, repeat) for repeat in range(settings.repeats)]
        segmenters: dict[str, list[Segmenter]] = {name: [] for name in sights}
        for repeat, places in enumerate(draws):
            few = {
                name: few_pixels(sight, places, settings.augmented, argument.memory) for name, sight in sights.items()
            }
            truth = labelled_masks(store, images["train"].rows[places], argument).to(job.device)
            for name, pixels in few.items():
                fitted = dense.fit(settings, pixels, truth, len(names), repeat, partial(advance, job))
                segmenters[name].append(fitted)
        counts = score(job, sights, segmenters, images["test"], store, len(names))
        scores = {name: dense.intersection_over_union(each) for name, each in counts.items()}  # (R, K) each
        write_pictures(job, sights, segmenters, images["test"], store, names)
        write_rows(job, argument, choice, scores, names, [images["train"].rows[places].tolist() for places in draws])


def advance(job: Job, steps: int) -> None:
    job.progress.update(job.progress.done + steps)


def open_sights(
    job: Job, argument: DenseArgument, choice: Choice, images: Mapping[str, ModelInputs], size: int
) -> dict[str, Sight]:
    """What the networks see, by the part of a row's name: features, and raw pixels if asked for."""
    weights = choice.of(argument.checkpoints, job.group("weights"))
    trained = model.load(weights, job.device, weights=argument.weights.name)
    source = FeatureModel.of(trained, argument, int(job.options["batch"]), job.device)
    report_slow_precision(argument.precision, job.device, job.say)
    levels = {level.name: level for level in map(trained.level, [choice.sigma, *argument.selection.sigmas])}
    cells = [MapCell(levels[level], tap) for level, tap in argument.selection.cells(choice.cell)]
    data = images
    if trained.latents is not None:
        data = open_inputs(job.input("data"), SPLITS, job.device, trained.latents, None, argument.latents_as)
    sights: dict[str, Sight] = {"": FeatureSight(data, source, cells, size)}
    if argument.settings.neighbourhood:
        sights["pixels"] = RawSight(images, argument.noise_seed, argument.settings.neighbourhood)
    return sights


def read_masks(store: ImageStore, rows: np.ndarray) -> Tensor:
    """Masks int64 (n, S, S), -1 where no class is known."""
    classes = torch.from_numpy(masks.gather(store, rows)).long()
    return torch.where(classes == masks.UNKNOWN, dense.UNKNOWN, classes)


def labelled_masks(store: ImageStore, rows: np.ndarray, argument: DenseArgument) -> Tensor:
    """The masks of images of train and then of their augmented copies, in the order of `few_pixels`."""
    truth, places, seed = read_masks(store, rows), torch.from_numpy(rows), argument.noise_seed
    copies = range(1, argument.settings.augmented + 1)
    return torch.cat([truth, *(mask_copy(truth, places, seed, copy, argument.crop) for copy in copies)])


def score(
    job: Job, sights: Mapping[str, Sight], segmenters: Segmenters, test: ModelInputs, store: ImageStore, classes: int
) -> dict[str, Tensor]:
    """Confusion counts (R, K, K) of each on all test images, each of which is computed once for all repeats."""
    counts: dict[str, Tensor] = {}
    job.progress.start(len(test.rows), "images")

    def of_part(part: slice) -> dict[str, Tensor]:
        truth = read_masks(store, test.rows[part]).to(job.device)
        seen = {name: sight.pixels(sight.maps("test", part)) for name, sight in sights.items()}
        return {name: dense.score(segmenters[name], seen[name], truth, classes).cpu() for name in sights}

    together = list(parts(len(test.rows), sights, int(job.options["batch"])))
    for part, scored in zip(together, autosave.each(together, of_part), strict=True):
        for name in sights:
            counts[name] = counts[name] + scored[name] if name in counts else scored[name]
        job.progress.update(part.stop)
    return counts


def parts(images: int, sights: Mapping[str, Sight], most: int) -> Iterator[slice]:
    """The images that are computed together: at most `most`, and fewer where their maps are large."""
    image_bytes = max(sum(each.nbytes for each in sight.maps("test", slice(0, 1))) for sight in sights.values())
    at_once = max(1, min(most, AT_ONCE // image_bytes))
    yield from (slice(start, min(start + at_once, images)) for start in range(0, images, at_once))


def write_pictures(
    job: Job,
    sights: Mapping[str, Sight],
    segmenters: Segmenters,
    test: ModelInputs,
    store: ImageStore,
    names: list[str],
) -> None:
    """The first test images, their masks, and those that the first repeat predicts."""
    part = slice(0, min(SHOWN, len(test.rows)))
    truth = read_masks(store, test.rows[part])
    places = torch.arange(truth.numel(), device=job.device).view(truth.shape)
    predicted = {
        name: torch.stack([segmenters[name][0].classes(pixels.at(of_image.flatten())) for of_image in places])
        for name, pixels in ((name, sight.pixels(sight.maps("test", part))) for name, sight in sights.items())
    }
    shown = {f"predicted_{name}": each.view(truth.shape).cpu().numpy() for name, each in predicted.items()}
    images = to_uint8(test.read(part, Key(0, "dense"), 0, False).cpu()).numpy()
    with atomic(job.output("pictures")) as partial:
        np.savez(partial, images=images, truth=truth.numpy(), classes=np.array(names), **shown)


def write_rows(
    job: Job,
    argument: DenseArgument,
    choice: Choice,
    scores: Mapping[str, Tensor],
    names: list[str],
    draws: list[list[int]],
) -> None:
    """Mean IoU over the classes that the test masks have, of each repeat. `draws` are the labelled images."""
    settings = argument.settings
    (cell,) = choice.columns(argument.selection)
    common = {**argument.row, "split": "test", "kimg": choice.kimg, "images": settings.images, "seeds": len(draws)}
    of_features = {**argument.about, "views": settings.augmented, **cell}
    rows, details = list[dict[str, Any]](), {}
    for name, iou in scores.items():
        mious = iou.nanmean(1).tolist()
        evaluator = "_".join(filter(None, (argument.name, name, "miou")))
        columns = common if name else common | of_features
        rows.append({**columns, "evaluator": evaluator, **mean_and_spread(mious)})
        details[evaluator] = {"miou": mious, "iou": [[finite(value) for value in each] for each in iou.tolist()]}
    write_json(job.output("rows"), {"rows": rows, "classes": names, "labelled": draws, **details})
    job.write_receipt(images=settings.images, **{name: each["miou"] for name, each in details.items()})


def finite(value: float) -> float | None:
    """An IoU for JSON: null for a class that test does not have."""
    return value if value == value else None


if __name__ == "__main__":
    run(main)
