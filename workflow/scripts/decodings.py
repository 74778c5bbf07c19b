"""Test images decoded from their codes by one sampler: how similar they are to the originals (PSNR, SSIM, LPIPS if its
weights are cached), and pictures of what a code holds.

Config: `plan.arguments.DecodingsArgument`. Inputs: weights; images. Outputs: rows; pictures. Options: draw, the batch
size; autosave, in seconds.
"""

import statistics
from collections.abc import Callable

from diffprobe.runtime.job import Job, run

import numpy as np
import torch

from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation.decodings import (
    between,
    compared,
    encoded,
    exchanged,
    reconstructions,
    variations,
)
from diffprobe.evaluation.generation.reconstruction import similarities
from diffprobe.evaluation.sampling import Drawing
from diffprobe.networks.perceptual import LPIPS, available
from diffprobe.plan.arguments import DecodingsArgument
from diffprobe.runtime import autosave
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, write_json

SPLIT = "test"


def main(job: Job) -> None:
    argument, batch = DecodingsArgument.model_validate(job.config), int(job.options["draw"])
    images = open_images(job.input("images"), splits=[SPLIT])
    n, shown = min(argument.images, images.n), min(argument.shown, images.n)
    if shown < 2:
        raise UserError(f"{images.origin}: decodings are of 2 test images or more, here are {images.n}; add some")
    drawing = Drawing.of(argument.sample, job.input("weights"), None, batch, job.device)
    with job.autosaved("rows"):
        values = measured(job, drawing, images, n, batch)
        with atomic(job.output("pictures")) as partial:
            np.savez(partial, **pictures(drawing, torch.from_numpy(images.read(0, shown)), argument, n))
        common = argument.row | {"split": SPLIT, "images": n}
        write_json(job.output("rows"), {"rows": [common | row for row in rows(values)]})
    job.write_receipt(
        images=n, decoded=drawing.about, of=images.identity, images_per_second=round(job.progress.rate, 1)
    )


def measured(job: Job, drawing: Drawing, images: ImageSet, n: int, batch: int) -> dict[str, list[float]]:
    """Each measure of the first n images' reconstructions, one by one."""
    file, missing = available(None, download=False)
    perceptual = LPIPS(file).to(job.device, memory_format=torch.channels_last) if file else None
    measures, too_small = similarities(min(images.shape[:2]), perceptual)
    for line in (*too_small, *([] if file else [missing])):
        print(line, file=job.log)
    values: dict[str, list[float]] = {name: [] for name in measures}
    job.progress.start(n, "images")

    def of_batch(start: int) -> dict[str, torch.Tensor]:
        originals = torch.from_numpy(images.read(start, min(start + batch, n)))
        return compared(originals, reconstructions(drawing, originals, start), measures, job.device)

    for part in autosave.each(range(0, n, batch), of_batch):
        for name, more in part.items():
            values[name] += more.tolist()
        job.progress.update(len(next(iter(values.values()))))
    return values


def rows(values: dict[str, list[float]]) -> list[dict[str, object]]:
    """Rows of results: the mean of each measure and its spread over images."""
    spread = {name: statistics.stdev(each) for name, each in values.items() if len(each) > 1}
    return [
        {"evaluator": name, "value": statistics.mean(each), "spread": spread.get(name)} for name, each in values.items()
    ]


def pictures(drawing: Drawing, shown: torch.Tensor, argument: DecodingsArgument, n: int) -> dict[str, np.ndarray]:
    """Images uint8 (n, H, W, C) and rows of decodings of them, each uint8 (rows, columns, H, W, C). Of n images two
    neighbours are a pair.
    """
    codes = encoded(drawing, shown)
    first, second = codes[0 : len(codes) // 2 * 2 : 2], codes[1::2]
    drawn: dict[str, Callable[[], torch.Tensor]] = {
        "variations": lambda: variations(drawing, codes, argument.variations, n),
        "between": lambda: between(drawing, first, second, argument.steps),
    }
    lengths = getattr(drawing.model.network, "part_lengths", [])  # of a model whose code has parts
    if len(lengths) > 1:
        drawn["exchanged"] = lambda: exchanged(drawing, first, second, lengths)
    made = {"images": shown.numpy()}
    for part in autosave.each(drawn, lambda name: {name: drawn[name]()}):
        made |= {name: decoded.cpu().numpy() for name, decoded in part.items()}
    return made


if __name__ == "__main__":
    run(main)
