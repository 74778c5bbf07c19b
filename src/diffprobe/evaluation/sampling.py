"""Images from a trained network: image i is a function of the seed and i alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import samples
from diffprobe.diffusion.guidance import guided
from diffprobe.diffusion.samplers import heun, to_uint8
from diffprobe.evaluation.model import Model, load
from diffprobe.networks.condition import Condition
from diffprobe.runtime.files import atomic, digest, sha256
from diffprobe.runtime.keyed import Key, normal
from diffprobe.runtime.receipts import code_version

STRIP = 8  # images of which it is shown how they come about


@torch.inference_mode()
def draw(
    model: Model,
    rows: Tensor,
    seed: int,
    steps: int,
    rho: float,
    guidance: float = 1.0,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The images numbered `rows` (B,), uint8 (B, H, W, C); `watch` as in `samplers.heun`.

    A conditional network is told the label i mod K for image i, so that every class comes equally often.
    """
    sigmas = model.process.schedule(steps, rho)
    start = normal(Key(seed, "sample"), rows, model.shape) * float(sigmas[0])  # (B, C, H, W)
    label = rows % model.classes if model.classes else torch.full_like(rows, -1)  # (B,)

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return model.process.denoise(model.network, x, sigma, Condition(label))[0]

    return to_uint8(model.to_images(heun(guided(denoise, label, guidance), start, sigmas, watch)))


@torch.inference_mode()
def strip(model: Model, rows: Tensor, **options) -> Tensor:
    """How images come about: the denoised estimate at each step, then the image; uint8 (B, steps + 1, H, W, C)."""
    seen: list[Tensor] = []
    final = draw(model, rows, watch=lambda x: seen.append(to_uint8(model.to_images(x))), **options)
    return torch.stack([*seen, final], dim=1)


@dataclass(frozen=True)
class Drawing:
    """What one checkpoint draws by one sampler: image i, for any i. `config`: seed, sampler, weights."""

    model: Model
    config: dict[str, Any]
    about: dict[str, Any]  # all that an image follows from besides the code, for stores and receipts
    batch: int  # images drawn at a time
    device: torch.device

    @classmethod
    def of(
        cls, config: dict[str, Any], ema: Path, autoencoder: Path | None, batch: int, device: torch.device
    ) -> "Drawing":
        """From a checkpoint of the moving average, and the autoencoder where it sees latents."""
        about = {key: config[key] for key in ("seed", "sampler", "weights")} | {"checkpoint": sha256(ema)}
        if autoencoder:
            about["autoencoder"] = sha256(autoencoder)
        return cls(load(ema, device, autoencoder), config, about, batch, device)

    @property
    def options(self) -> dict[str, Any]:
        sampler = self.config["sampler"]
        return {"seed": self.config["seed"], **{key: sampler[key] for key in ("steps", "rho", "guidance")}}

    def fill(self, store: Path, n: int, report: Callable[[int], object]) -> samples.Samples:
        """The first n images as a store; what a killed run has drawn by this code stays. `report` hears the number."""
        samples.fill(store, n, self.model.image, self.about, self.array, report, drawn_by=digest(code_version()))
        return samples.open_samples(store)

    def array(self, start: int, stop: int) -> np.ndarray:
        """Images start..stop, uint8 (B, H, W, C)."""
        return self.images(start, stop).cpu().numpy()

    def images(self, start: int, stop: int) -> Tensor:
        """The same on the device, at most `batch` drawn at a time."""
        rows = torch.arange(start, stop, device=self.device)
        return torch.cat([draw(self.model, part, **self.options) for part in rows.split(self.batch)])

    def write_strip(self, path: Path, images: int) -> None:
        """How the first of so many images come about: `images` uint8 (n, steps + 1, H, W, C), `sigmas` of the steps."""
        frames = strip(self.model, torch.arange(min(STRIP, images), device=self.device), **self.options)
        sigmas = self.model.process.schedule(self.options["steps"], self.options["rho"])
        with atomic(path) as partial:
            np.savez(partial, images=frames.cpu().numpy(), sigmas=sigmas.numpy())
