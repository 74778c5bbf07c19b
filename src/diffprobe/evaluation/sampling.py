"""Images from a trained network: image i is a function of the seed and i alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprobe.config.names import DRAWS
from diffprobe.data import samples
from diffprobe.data.pixels import first_non_finite, to_uint8
from diffprobe.diffusion.build import Sampler, build_sampler
from diffprobe.diffusion.guidance import Conditional, guided
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Denoised
from diffprobe.diffusion.samplers import Denoiser, Watch
from diffprobe.evaluation.codes import CodesOfImages, coded
from diffprobe.evaluation.model import Model, load
from diffprobe.networks.compiled import compiled
from diffprobe.networks.condition import Condition
from diffprobe.networks.flops import flops, on_meta
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.devices import is_bf16, memory_format, peak_flops
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, digest, sha256
from diffprobe.runtime.keyed import Key, normal, uniform

if TYPE_CHECKING:
    from diffprobe.config import samplers
    from diffprobe.plan.arguments import SampleArgument

STRIP = 8  # images of a strip, which shows how they come about
FRAMES = 40  # steps that a strip shows at most


@torch.inference_mode()
def draw(model: Model, sampler: Sampler, rows: Tensor, seed: int, watch: Watch | None = None) -> Tensor:
    """The images numbered `rows` (B,), uint8 (B, H, W, C); `watch` as in `samplers`.

    Raises UserError for an image that is not finite, and for labels that the model has not.
    """
    settings = sampler.settings
    codes = model.codes(rows) if model.codes else None  # (B, z)
    # What an image is conditioned on, as guidance knows it: its label, or its place among the codes; -1 for neither.
    given = labels(settings.labels, model.classes, rows, seed) if codes is None else torch.arange(len(rows)).to(rows)
    bf16 = is_bf16(settings.precision, rows.device, model.network)

    def denoise(x: Tensor, level: Level, given: Tensor) -> Denoised:
        cond = Condition(given) if codes is None else coded(codes, given)
        x = x.contiguous(memory_format=memory_format(x.device))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            denoised = sampler.process.denoise(model.network, x, level.of(x), cond)
        return denoised._replace(x0=denoised.image.float())

    def noise(step: int) -> Tensor:
        return normal(Key(seed, "sample/step"), rows, model.shape, step)

    # Keyed by row, never drawn in sequence: an image does not depend on the batch that it is in.
    start = normal(Key(seed, "sample"), rows, model.shape)  # (B, C, H, W)
    x = sampler.run(guided_by(settings, denoise, given), start, noise, watch)
    images = model.to_images(x)
    if (bad := first_non_finite(images)) is not None:
        raise UserError(
            f"image {int(rows[bad])}, drawn by the sampler {settings.kind} in {settings.precision}, holds NaN or "
            "infinite values; use precision fp32, a lower guidance, or another checkpoint"
        )
    return to_uint8(images)


def labels(which: str | Sequence[int], classes: int, rows: Tensor, seed: int) -> Tensor:
    """The labels of the images numbered `rows`, int64 (B,); -1 of a model without classes.

    `balanced`: i mod K, so that every class comes equally often; `random`: uniform, keyed by the image's number; or
    numbers in turn. Raises UserError for a number beyond the classes.
    """
    if not classes:
        return torch.full_like(rows, -1)
    if which == "balanced":
        return rows % classes
    if which == "random":
        return (uniform(Key(seed, "sample/label"), rows) * classes).long()
    listed = torch.tensor(which, dtype=torch.int64, device=rows.device)
    if listed.max() >= classes:
        raise UserError(f"labels: {int(listed.max())} is refused; allowed: 0 to {classes - 1}, the model's classes")
    return listed[rows % len(listed)]


def guided_by(settings: "samplers.Sampler", denoise: Conditional, label: Tensor) -> Denoiser:
    """The denoiser with the guidance of a sampler's settings."""
    return guided(denoise, label, settings.guidance, settings.guidance_channels, settings.guidance_interval)


@torch.inference_mode()
def strip(model: Model, sampler: Sampler, rows: Tensor, seed: int, stride: int | None = None) -> "Strip":
    """How images come about, at every `stride`-th step, or at some steps, evenly spread, without noisy images."""
    levels = sampler.levels
    every = stride or -(-(len(levels) - 1) // FRAMES)
    estimates: list[Tensor] = []  # uint8 (B, H, W, C) each
    noisy: list[Tensor] = []
    count = 0

    def watch(clean: Tensor, x: Tensor, level: Level) -> None:
        nonlocal count
        if count % every == 0:
            estimates.append(to_uint8(model.to_images(clean)))
            if stride:  # at the scale of images: EDM's states are as large as their noise
                scaled = x / math.hypot(level.alpha, level.sigma)
                noisy.append(to_uint8(model.to_images(scaled.to(clean.dtype))))
        count += 1

    final = draw(model, sampler, rows, seed, watch)
    return Strip(
        torch.stack([*estimates, final], dim=1),
        torch.stack([*noisy, final], dim=1) if stride else None,
        [*levels[:-1:every], levels[-1]],
    )


class Strip(NamedTuple):
    """Images during denoising, frame by frame; the last frame is the finished image."""

    estimates: Tensor  # uint8 (B, frames, H, W, C): x_0 as estimated, decoded
    noisy: Tensor | None  # the same of x_t
    levels: list[Level]  # of the frames


def evaluations(sampler: Sampler) -> int:
    """Evaluations of the network per image, counted on an image of one pixel."""
    calls = 0

    def denoise(x: Tensor, level: Level, label: Tensor) -> Denoised:
        nonlocal calls
        calls += len(x)  # guidance needs both estimates
        return Denoised(x, variance_share=x)

    pixel = torch.zeros(1, 1, 1, 1)
    sampler.run(guided_by(sampler.settings, denoise, torch.zeros(1, dtype=torch.int64)), pixel, lambda _: pixel)
    return calls


@dataclass(frozen=True)
class Drawing:
    """What one checkpoint draws by one sampler: image i, for any i."""

    model: Model
    sampler: Sampler
    seed: int
    about: dict[str, Any]  # all that an image depends on besides the code, for stores and receipts
    batch: int  # images drawn at a time
    device: torch.device

    @classmethod
    def of(
        cls,
        argument: "SampleArgument",
        weights: Path,
        autoencoder: Path | None,
        batch: int,
        device: torch.device,
        images: Path | None = None,
    ) -> "Drawing":
        """From a checkpoint; the autoencoder if its model sees latents; the images whose codes it decodes, if any."""
        from diffprobe.config import processes, samplers  # here, so that benchmarks draw without pydantic

        about = argument.model_dump(include={"seed", "sampler", "weights"}) | {
            "checkpoint": sha256(weights),
            "draws": DRAWS,
        }
        if autoencoder:
            about["autoencoder"] = sha256(autoencoder)
        model = load(weights, device, autoencoder, argument.weights["name"])
        if images:
            codes = CodesOfImages.of(model.encode, images)
            about["codes"], model = codes.about, model._replace(codes=codes)
        settings = samplers.Sampler.member(argument.sampler)
        sampler = build_sampler(settings, processes.Process.member(model.header["process"]))
        model = compiled_model(model, sampler, argument.images or argument.keep, device)
        return cls(model, sampler, argument.seed, about, batch, device)

    @property
    def labels(self) -> str | list[int] | None:
        """How images are labelled; None of an unconditional model."""
        return self.sampler.settings.labels if self.model.classes else None

    def fill(self, store: Path, n: int, report: Callable[[int], object]) -> samples.SampleStore:
        """The first n images as a store; those that a killed run has drawn by the same code are kept.

        `report` is called with the number of finished images.
        """
        samples.fill(store, n, self.model.image, self.about, self.array, report, drawn_by=digest(code_version()))
        return samples.open_samples(store)

    def image_flops(self) -> int:
        """The FLOPs of drawing one image."""
        return flops(lambda: draw(self.model, self.sampler, torch.zeros(1, dtype=torch.int64, device=self.device), 0))

    def peak_flops(self) -> float:
        """FLOP per second of the device in the sampler's precision, at most."""
        return peak_flops(self.device, is_bf16(self.sampler.settings.precision, self.device, self.model.network))

    def array(self, start: int, stop: int) -> np.ndarray:
        """Images start .. stop, uint8 (B, H, W, C)."""
        return self.images(start, stop).cpu().numpy()

    def images(self, start: int, stop: int) -> Tensor:
        """The same on the device, at most `batch` drawn at a time."""
        rows = torch.arange(start, stop, device=self.device)
        return torch.cat([draw(self.model, self.sampler, part, self.seed) for part in rows.split(self.batch)])

    def write_strip(self, path: Path, images: int, stride: int | None = None) -> None:
        """How the first of `images` images come about: `images`, the estimates, and with a stride `noisy`, each uint8
        (n, frames, H, W, C), and `sigmas` of the frames.
        """
        rows = torch.arange(min(STRIP, images), device=self.device)
        frames = strip(self.model, self.sampler, rows, self.seed, stride)
        estimates, sigmas = frames.estimates.cpu().numpy(), np.array([level.ratio for level in frames.levels])
        with atomic(path) as partial:
            if frames.noisy is None:
                np.savez(partial, images=estimates, sigmas=sigmas)
            else:
                np.savez(partial, images=estimates, sigmas=sigmas, noisy=frames.noisy.cpu().numpy())


def compiled_model(model: Model, sampler: Sampler, images: int, device: torch.device) -> Model:
    """The model, its network compiled where that pays for this number of images."""
    if device.type != "cuda":
        return model
    from diffprobe.config.built import parse_model

    module, (x, c_noise, _) = on_meta(parse_model(model.header), model.shape, **model.header["shape"])
    work = flops(lambda: module(x, c_noise)) * evaluations(sampler)  # per image; an encoder's single pass is left out
    return model._replace(network=compiled(model.network, device, work * images))
