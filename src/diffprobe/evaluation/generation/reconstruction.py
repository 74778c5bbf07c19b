"""How well an autoencoder reconstructs images: their similarity pair by pair, and the Fréchet distance between all
reconstructions and all originals.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from diffprobe.config.names import figure_name
from diffprobe.data.imagesets import ImageSet, batches
from diffprobe.data.pixels import first_non_finite, to_float, to_uint8
from diffprobe.evaluation.generation.autosave import joined, merge
from diffprobe.evaluation.generation.collect import BATCH, update
from diffprobe.evaluation.generation.figures import Subject, printed
from diffprobe.evaluation.generation.frechet import frechet_distance
from diffprobe.evaluation.generation.ssim import WINDOW, ssim
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.networks.autoencoder import Codec, psnr
from diffprobe.networks.perceptual import LPIPS, SMALLEST
from diffprobe.runtime import autosave
from diffprobe.runtime.errors import UserError

SHOWN = 64  # pairs in the plot
Similarity = Callable[[Tensor, Tensor], Tensor]  # images (B, C, S, S) in [-1, 1], twice, to (B,)


def similarities(size: int, perceptual: LPIPS | None) -> tuple[dict[str, Similarity], list[str]]:
    """The measures for images of this size, by name; and a line for each that needs larger ones."""
    least: dict[str, tuple[Similarity, int]] = {"psnr": (psnr, 1), "ssim": (ssim, WINDOW)}
    if perceptual is not None:
        least["lpips"] = perceptual, SMALLEST
    too_small = [f"{name} takes images of {n} pixels or more" for name, (_, n) in least.items() if size < n]
    return {name: measure for name, (measure, n) in least.items() if size >= n}, too_small


class Reconstruction:
    """Statistics of one set of images and its reconstructions; per image only a number for each measure is kept, and
    of the first ones the pair.

    Similarities are computed at the autoencoder's size, on its output clamped to [-1, 1]. The distance is between the
    dataset's images and reconstructions at their size, rounded to bytes as samples are.
    """

    def __init__(
        self,
        codec: Codec,
        measures: Mapping[str, Similarity],
        subjects: Sequence[Subject],
        n: int,
        device: torch.device,
        batch: int = BATCH,
        shown: int = SHOWN,
    ) -> None:
        self.codec, self.measures, self.device, self.batch = codec, measures, device, batch
        self.pairs = torch.empty(2, 0, codec.size, codec.size, codec.channels, dtype=torch.uint8)  # (2, n, S, S, C)
        self.shown = shown
        self.subjects = subjects if n > 1 else []  # one image has no covariance
        self.values: dict[str, list[float]] = {name: [] for name in measures}
        self.originals, self.reconstructions = (
            [Statistics(SubsetPlan(n, 0), subject.extractor, ("fd",)) for subject in self.subjects] for _ in range(2)
        )
        self.done = 0

    @torch.inference_mode()
    def take(self, images: Tensor) -> None:
        """Add a batch, uint8 (B, H, W, C). Raises UserError for an output that is not finite."""
        x = to_float(images.to(self.device))
        z = self.codec.latents(self.codec.moments(x))  # without noise: the posterior's mean
        original, decoded = self.codec.preprocess(x), self.codec.decode(z)  # (B, C, S, S)
        if (bad := first_non_finite(decoded)) is not None:
            line = f"image {self.done + bad} as the autoencoder returns it holds NaN or infinite values"
            raise UserError(f"{line}; use another checkpoint of the autoencoder")
        clamped = decoded.clamp(-1, 1)
        for name, measure in self.measures.items():
            self.values[name] += measure(clamped, original).tolist()
        if self.subjects:
            returned = to_uint8(self.codec.postprocess(decoded))
            update(self.originals, self.done, images, self.device, self.batch)
            update(self.reconstructions, self.done, returned, self.device, self.batch)
        self.done += len(images)
        if self.pairs.shape[1] < self.shown:
            pair = torch.stack([to_uint8(original), to_uint8(clamped)]).cpu()
            self.pairs = torch.cat([self.pairs, pair], dim=1)[:, : self.shown]

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors, for a file."""
        state = {"done": torch.tensor(self.done), "pairs": self.pairs}
        state |= {f"value.{name}": torch.tensor(each, dtype=torch.float64) for name, each in self.values.items()}
        return state | joined([*self.originals, *self.reconstructions])

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up an earlier `state` of the same images."""
        self.done, self.pairs = int(state["done"]), state["pairs"]
        self.values = {name: state[f"value.{name}"].tolist() for name in self.values}
        merge([*self.originals, *self.reconstructions], state)

    def rows(self) -> list[dict[str, object]]:
        """Rows of results: the mean of each similarity and its spread over images, then each extractor's distance."""
        rows: list[dict[str, object]] = []
        for name, values in self.values.items():
            spread = statistics.stdev(values) if len(values) > 1 else None
            rows.append({"evaluator": name, "value": statistics.mean(values), "spread": spread, "images": len(values)})
        for subject, original, made in zip(self.subjects, self.originals, self.reconstructions, strict=True):
            figure = figure_name(printed("fd", subject.extractor), self.done, subject.extractor.name)
            a, b = original.moments, made.moments
            value = frechet_distance(a.mu, a.sigma, b.mu, b.sigma)
            # Called rfd or rfid, so that nobody takes it for a figure of generation.
            rows.append({"evaluator": f"r{figure}", "extractor": subject.name, "value": value, "images": self.done})
        return rows


def reconstruct(images: ImageSet, into: Reconstruction, batch: int) -> Iterator[int]:
    """Add all of a set, `batch` at a time or as many as an autoencoder may decode at once; yields how many are done.

    In a job that saves its computations, a killed one goes on behind the images that it has added.
    """
    saved = autosave.own()
    if before := saved.read() if saved else {}:
        into.restore(before)
    for part in batches(images, min(batch, into.codec.at_once(into.device)), into.done):
        into.take(torch.from_numpy(part))
        yield into.done
        if saved:
            saved.offer(into.state)
