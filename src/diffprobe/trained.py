"""A trained model in Python: `diffprobe.load(run)`, then `features`, `encode` and `loss` of images, and `sample`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from diffprobe.config.problems import one_of
from diffprobe.config.processes import Process
from diffprobe.config.samplers import Sampler
from diffprobe.data.pixels import first_non_finite, imagenet_normalised, to_float
from diffprobe.diffusion.build import build_sampler
from diffprobe.diffusion.levels import CLEAN, Level
from diffprobe.evaluation import model
from diffprobe.evaluation.representation.features import FeatureModel, Pass
from diffprobe.evaluation.representation.inputs import ModelInputs, Part
from diffprobe.evaluation.sampling import Drawing
from diffprobe.interop.runs import checkpoint
from diffprobe.networks.autoencoder import Codec
from diffprobe.networks.condition import Condition
from diffprobe.runtime.allocator import keep_freed_memory
from diffprobe.runtime.devices import memory_format
from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.keyed import Draws, Key, normal
from diffprobe.training import checkpoints

ROUNDING = 1e-3  # by which floats may leave [-1, 1]


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint's model. Its methods raise UserError for layers, levels and samplers that it does not have."""

    model: model.Model
    device: torch.device
    codec: Codec | None  # the autoencoder of its latents; None for a model of pixels

    @classmethod
    def open(
        cls,
        run: str | Path,
        kimg: int | None = None,
        weights: str | None = "ema",
        autoencoder: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> "TrainedModel":
        """See `diffprobe.load`."""
        keep_freed_memory()
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        path = holding("process", checkpoint(Path(run), kimg, weights), "a diffusion model")
        loaded = model.load(path, device, weights=weights)
        if not loaded.latents:
            return cls(loaded, device, None)
        if autoencoder is None:
            raise UserError(f"{path}: a model of latents; name its autoencoder's run or checkpoint (autoencoder=...)")
        # The header of a model of latents says which latents, but not where its autoencoder is.
        own = holding("codec", checkpoint(Path(autoencoder), None, None), "an autoencoder")
        latents = loaded.header["latents"]
        codec, _ = model.load_codec(own, device, tuple(latents["image"]))
        return cls(loaded._replace(to_images=model.latent_decoder(latents, own, device)), device, codec)

    @property
    def taps(self) -> list[str]:
        """The layers that have features, in the order of computation."""
        return self.model.taps

    @property
    def clean_taps(self) -> list[str]:
        """Those of them that see images as they are, without noise."""
        return self.model.clean_taps

    def level(self, sigma: float | Literal["clean"] | None) -> Level:
        """The noise level whose sigma/alpha (`ratio`) is `sigma`, or the nearest level of a discrete process."""
        if sigma is None or sigma == "clean":
            return CLEAN
        if not 0 < sigma < math.inf:
            raise UserError(f"sigma {sigma}: expected a finite number above 0")
        return self.model.process.level(sigma)

    def features(
        self,
        images: Any,
        sigma: float | Literal["clean"] | None = "clean",
        taps: Sequence[str] | str = "all",
        seed: int = 0,
        batch: int = 256,
    ) -> dict[str, np.ndarray]:
        """Each tap's activation at a noise level, averaged over positions: float32 (N, D) by tap.

        At `clean`, or None, those of the layers that see images as they are; at noise levels a decoder that is guided
        by a code of the image gets that code.

        `images`: uint8 (N, H, W, C), or floats (N, C, H, W) in [-1, 1]; numpy or tensor. The noise equals the
        workflow's at this seed for the images 0 .. N - 1 of a store.
        """
        refuse_below_one("batch", batch)
        level = self.level(sigma)
        selected = self.selected(taps, level)
        pixels = self.pixels(images)

        def read(part: Part, key: Key, draw: int, augmented: bool) -> Tensor:
            assert isinstance(part, slice)  # as all images are read, one batch after the other
            return self.seen(pixels[part], part.start, key, draw)

        data = ModelInputs(np.arange(len(pixels)), read)
        # The purpose "features" and row numbers key the noise as in the workflow's jobs.
        encoded = bool(self.clean_taps)
        source = FeatureModel(self.model.network, self.model.process, seed, self.device, batch, encoded=encoded)
        pooled = {tap: (tap, "mean") for tap in selected}
        blocks = [block for _, block in source.blocks(data, Pass(level, pooled, "features", draw=0))]
        return {tap: torch.cat([block[tap] for block in blocks]).cpu().numpy() for tap in selected}

    def loss(self, images: Any, labels: Any = None, seed: int = 0, batch: int = 256) -> float:
        """The mean over images of what the model was trained to minimise, each at one noise level drawn as in training.

        `images` as for `features`, `labels` (N,) for a conditional model, -1 or None: no label. Levels and noise depend
        on the seed and an image's number alone, so that models with one process are compared at equal noise.
        """
        refuse_below_one("batch", batch)
        self.refuse_classifier()
        pixels, total = self.pixels(images), 0.0
        label = torch.as_tensor(np.full(len(pixels), -1) if labels is None else labels).long()
        if label.shape != (len(pixels),) or not -1 <= label.min() <= label.max() < max(self.model.classes, 1):
            classes = f"-1 (none) or a class below {self.model.classes}" if self.model.classes else "-1 (none)"
            raise UserError(f"labels: expected {len(pixels)} integers, each {classes}")
        for first in range(0, len(pixels), batch):
            part = slice(first, first + batch)
            with torch.inference_mode():
                x = self.seen(pixels[part], first, Key(seed, "loss/latents"), 0)
                draws = Draws(seed, torch.arange(first, first + len(x), device=self.device), "loss/")
                cond = Condition(label[part].to(self.device), source=x)  # for an encoder, if it has one
                total += self.model.process.loss(self.model.network, x, draws, cond).item() * len(x)
        return total / len(pixels)

    def refuse_classifier(self) -> None:
        """Raise UserError for a network that names classes and denoises nothing."""
        if getattr(self.model.network, "classifies", False):
            raise UserError("a classifier denoises nothing; features(images, sigma, 'logits') has its classes")

    def selected(self, taps: Sequence[str] | str, level: Level) -> list[str]:
        """The taps as a list. Raises UserError for those that are not computed at the level."""
        clean = self.clean_taps
        named = getattr(self.model.network, "named_taps", self.taps)
        usual, allowed = ([t for t in names if (t in clean) == (not level.sigma)] for names in (self.taps, named))
        if not allowed and not level.sigma:
            raise UserError(f"no tap is computed at {level.title}; name a noise level: sigma=0.1")
        selected = usual if taps == "all" else [taps] if isinstance(taps, str) else list(taps)
        if missing := [tap for tap in selected if tap not in allowed]:
            where = f" at {level.title}" if clean else ""
            raise UserError(f"no tap {missing[0]}{where}; there are {one_of(allowed)}")
        return selected

    def encode(self, images: Any, batch: int = 256) -> np.ndarray:
        """The codes of images by a model with an encoder, such as SODA's: float32 (N, z); images as for `features`."""
        refuse_below_one("batch", batch)
        encode, pixels = self.model.encode, self.pixels(images)
        with torch.inference_mode():
            codes = [encode(self.seen(part, 0, Key(0, "encode"), 0)) for part in pixels.split(batch)]
        return torch.cat(codes).float().cpu().numpy()

    def sample(
        self, n: int, seed: int = 0, sampler: dict[str, Any] | None = None, batch: int = 256, images: Any = None
    ) -> np.ndarray:
        """The images 0 .. n - 1 that the workflow draws at this seed: uint8 (n, H, W, C).

        `sampler` is as in a config, such as {"kind": "heun", "steps": 18}; None: the default of the process.
        `images` as for `features`: a model with an encoder decodes their codes in turn; None: it draws without a code.
        """
        refuse_below_one("n", n)
        refuse_below_one("batch", batch)
        self.refuse_classifier()
        built = build_sampler(self.sampler(sampler), Process.member(self.model.header["process"]))
        model = self.model
        if images is not None:
            codes = torch.from_numpy(self.encode(images, batch)).to(self.device)  # (N, z)
            model = model._replace(codes=lambda numbers: codes[numbers % len(codes)])
        return Drawing(model, built, seed, {}, batch, self.device).array(0, n)

    def sampler(self, settings: dict[str, Any] | None) -> Sampler:
        """A sampler's whole settings, checked against the process."""
        process = Process.member(self.model.header["process"])
        sampler = parsed(process.usual_sampler(bounded=self.codec is None) if settings is None else settings)
        for key, value, allowed in sampler.problems("sampler", process):
            raise UserError(f"{key.replace('.', ': ')}: {value}: allowed: {allowed}")
        return sampler

    def pixels(self, images: Any) -> Tensor:
        """Images as floats (N, C, H, W) in [-1, 1], on the CPU. Raises UserError for anything else."""
        height, width, channels = self.model.image
        expected = (
            f"expected uint8 (N, {height}, {width}, {channels}) or floats (N, {channels}, {height}, {width}) in [-1, 1]"
        )
        try:
            x = torch.as_tensor(images)
        except (TypeError, ValueError, RuntimeError) as error:  # text, objects, lists of different lengths
            raise UserError(f"images: {one_line(error)}; {expected}") from None
        shape = (height, width, channels) if x.dtype == torch.uint8 else (channels, height, width)
        if x.ndim != 4 or tuple(x.shape[1:]) != shape or not (x.dtype == torch.uint8 or x.is_floating_point()):
            raise UserError(f"images: {x.dtype} of shape {tuple(x.shape)}; {expected}")
        if not len(x):
            raise UserError("images: empty; expected at least one")
        if x.dtype == torch.uint8:
            return to_float(x)
        if (row := first_non_finite(x)) is not None:
            raise UserError(f"images: NaN or infinite values in image {row}; {expected}")
        low, high = x.min().item(), x.max().item()
        if low < -1 - ROUNDING or high > 1 + ROUNDING:
            raise UserError(f"images: values from {low:.4g} to {high:.4g}; {expected}")
        return x.float()

    def seen(self, pixels: Tensor, first: int, key: Key, draw: int) -> Tensor:
        """The network's input for images (B, C, H, W), the first of which has the number `first`.

        That is the images themselves or, for a model of latents, a draw from each posterior in model scale.
        """
        x = pixels.to(self.device)
        if self.codec is None:
            return x.contiguous(memory_format=memory_format(x.device))
        header = self.model.header["latents"]
        scale, shift = (  # (C, 1, 1) each
            torch.tensor(header[name], device=self.device)[:, None, None] for name in ("scale", "shift")
        )
        rows = torch.arange(first, first + len(x), device=self.device)
        with torch.inference_mode():
            pixels = imagenet_normalised((x + 1) / 2) if header.get("normalise") else x
            moments = self.codec.moments(pixels)  # (B, 2C, h, w)
            return (self.codec.latents(moments, normal(key, rows, self.model.shape, draw)) - shift) * scale


def refuse_below_one(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} {value}: expected a positive integer")


def holding(key: str, path: Path, what: str) -> Path:
    """The path of a checkpoint whose header has the key. Raises UserError for any other file."""
    if not checkpoints.header(path).get(key):
        raise UserError(f"{path}: no checkpoint of {what}; name the folder of such a run, or its checkpoint")
    return path


def parsed(settings: dict[str, Any]) -> Sampler:
    try:
        return Sampler.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"sampler: {'.'.join(map(str, first['loc'])) or settings}: {first['msg']}") from None
