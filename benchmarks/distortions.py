"""The figures of real, noised and blurred images: each figure must get worse with every level.

    python -m benchmarks.distortions cifar10-a.zip cifar10-b.zip --weights FILE --dims 768 --images 2000

Half A of CIFAR-10's training images is the reference. Half B is compared with it unchanged, with Gaussian noise of
growing deviation (in grey levels), and blurred by Gaussians of growing width (in pixels): always the same images.
Prints a Markdown table row by row.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from diffprobe.config.extractors.inception import InceptionExtractor
from diffprobe.config.models import Metrics
from diffprobe.data.imagesets import ImageSet, open_images
from diffprobe.evaluation.generation import extractors
from diffprobe.evaluation.generation.collect import collect
from diffprobe.evaluation.generation.figures import Subject, compute_figures
from diffprobe.evaluation.generation.reference import compute_reference
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.runtime.keyed import Key, normal

NOISE = (4, 8, 16, 32, 64)  # deviation in grey levels
BLUR = (0.5, 0.75, 1.0, 1.5, 2.0)  # deviation in pixels
FIGURES = ("fd", "sfid", "kid", "precision", "recall", "density", "coverage")

Change = Callable[[np.ndarray, int], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of noised and blurred images.")
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--weights", type=Path, help="Inception's weights (default: the public download)")
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--images", type=int, default=25_000, help="images of half B and of each distorted copy")
    parser.add_argument("--reference", type=int, default=25_000, help="images of half A")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = InceptionExtractor(kind="inception", dims=arguments.dims)
    extractor = extractors.make(settings, arguments.weights, device)
    most = Metrics().subset
    reference = compute_reference(first(open_images(arguments.a), arguments.reference), extractor, most, device, 64)
    images = first(open_images(arguments.b), arguments.images)
    print(f"{extractor.name}, weights {extractor.weights[:12]}; reference: the first {reference.n:,} images of half A")
    header = ""
    for name, change in changes():
        begun = time.perf_counter()
        statistics = Statistics(SubsetPlan(images.n, most), extractor, FIGURES)
        collect([statistics], changed(images, change), device)
        measured = [figure for figure in FIGURES if figure != "sfid" or extractor.spatial]
        subject = Subject("", extractor, reference)
        rows = compute_figures(measured, [subject], [statistics], Metrics(), torch.device("cpu"))
        names = [row["evaluator"].removesuffix(f"_{extractor.name}") for row in rows]
        if not header:
            header = f"| half B | {' | '.join(names)} | seconds |\n|{'---|' * (len(names) + 2)}"
            print(header)
        values = " | ".join(f"{row['value']:.4g}" for row in rows)
        print(f"| {name} | {values} | {time.perf_counter() - begun:.0f} |", flush=True)


def changes() -> Iterator[tuple[str, Change]]:
    yield "as it is", lambda images, _: images
    for level in NOISE:
        yield f"noise {level}", lambda images, start, level=level: noised(images, start, level)
    for level in BLUR:
        yield f"blur {level:g}", lambda images, _, level=level: blurred(images, level)


def first(images: ImageSet, n: int) -> ImageSet:
    return ImageSet(images.origin, min(n, images.n), images.shape, images.read, images.identify)


def changed(images: ImageSet, change: Change) -> ImageSet:
    def read(start: int, stop: int) -> np.ndarray:
        return change(images.read(start, stop), start)

    return ImageSet(images.origin, images.n, images.shape, read, images.identify)


def noised(images: np.ndarray, start: int, level: float) -> np.ndarray:
    """Images (B, H, W, C), numbered from `start`, each with its own noise, rounded to 8 bits."""
    rows = torch.arange(start, start + len(images))
    noise = normal(Key(0, "distortion"), rows, images.shape[1:]).numpy()
    return np.clip(np.rint(images + level * noise), 0, 255).astype(np.uint8)


def blurred(images: np.ndarray, level: float) -> np.ndarray:
    return np.rint(gaussian_filter(images.astype(np.float32), (0, level, level, 0))).astype(np.uint8)


if __name__ == "__main__":
    main()
