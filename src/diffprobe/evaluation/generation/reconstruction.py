"""How well an autoencoder gives images back: their likeness pair by pair, and the Frechet distance between all that
came back and all that went in.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from diffprobe.config.names import figure_name
from diffprobe.data.imagesets import ImageSet, batches
from diffprobe.data.pixels import to_float, to_uint8
from diffprobe.evaluation.generation.collect import BATCH, begin, take
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.figures import printed
from diffprobe.evaluation.generation.frechet import frechet_distance
from diffprobe.evaluation.generation.ssim import WINDOW, ssim
from diffprobe.evaluation.generation.statistics import Plan
from diffprobe.evaluation.model import DECODED
from diffprobe.networks.autoencoder import Codec, psnr
from diffprobe.networks.perceptual import LPIPS, SMALLEST

Likeness = Callable[[Tensor, Tensor], Tensor]  # images (B, C, S, S) in [-1, 1], twice, to (B,)
Rows = list[dict[str, Any]]


def likenesses(size: int, perceptual: LPIPS | None) -> tuple[dict[str, Likeness], list[str]]:
    """What can be told of images of this size, by name; and a line for each that cannot, for want of pixels."""
    found: dict[str, tuple[Likeness, int]] = {"psnr": (psnr, 1), "ssim": (ssim, WINDOW)}
    if perceptual is not None:
        found["lpips"] = perceptual, SMALLEST
    without = [f"{name} takes images of {least} pixels or more" for name, (_, least) in found.items() if size < least]
    return {name: likeness for name, (likeness, least) in found.items() if size >= least}, without


class Reconstruction:
    """What is collected of one set of images; nothing of it grows with an image but a number for each likeness.

    Likenesses are of images as the autoencoder takes and makes them, the latter cut to [-1, 1]; the distance is of the
    dataset's images and of those brought back to their size as samples are, as bytes.
    """

    def __init__(
        self,
        codec: Codec,
        measures: Mapping[str, Likeness],
        extractors: Mapping[str, Extractor],
        n: int,
        device: torch.device,
        batch: int = BATCH,
    ) -> None:
        self.codec, self.measures, self.device, self.batch = codec, measures, device, batch
        self.extractors = extractors if n > 1 else {}  # one image has no covariance
        self.found: dict[str, list[float]] = {name: [] for name in measures}
        self.real, self.made = (begin(self.extractors, Plan(n, 0), ("fd",)) for _ in range(2))
        self.done = 0

    @torch.inference_mode()
    def take(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a batch, uint8 (B, H, W, C): what went into the autoencoder and what came out, uint8 (B, S, S, C)."""
        x = to_float(images.to(self.device))
        z = self.codec.latents(self.codec.moments(x))  # without noise: the posterior's mean
        original, decoded = self.codec.preprocess(x), self.codec.decode(z)  # (B, C, S, S)
        made = decoded.clamp(-1, 1)
        for name, likeness in self.measures.items():
            self.found[name] += likeness(made, original).tolist()
        if self.extractors:
            options = (self.device, self.batch)
            take(self.real, self.extractors, self.done, images, *options)
            take(self.made, self.extractors, self.done, to_uint8(self.codec.postprocess(decoded)), *options)
        self.done += len(images)
        return to_uint8(original), to_uint8(made)

    def rows(self) -> Rows:
        """The mean of each likeness with its deviation over images, then the distance by each extractor."""
        found = [likeness_row(name, values) for name, values in self.found.items()]
        return found + [self.distance(name, extractor) for name, extractor in self.extractors.items()]

    def distance(self, name: str, extractor: Extractor) -> dict[str, Any]:
        """Named rfd or rfid, so that nobody takes it for a figure of generation."""
        real, made = self.real[name].moments, self.made[name].moments
        figure = figure_name(printed("fd", extractor), real.n, extractor.name)
        value = frechet_distance(real.mu, real.sigma, made.mu, made.sigma)
        return {"evaluator": f"r{figure}", "extractor": name, "value": value, "images": real.n}


def likeness_row(name: str, values: list[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"evaluator": name, "value": statistics.mean(values), "spread": spread, "images": len(values)}


def reconstructed(images: ImageSet, of: Reconstruction, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All of a set, `batch` at a time or as many as an autoencoder may decode at once: what `of.take` gives of each."""
    for part in batches(images, min(batch, max(1, DECODED // of.codec.size**2))):
        yield of.take(torch.from_numpy(part))
