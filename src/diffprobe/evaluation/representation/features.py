"""Features: activations of a network's taps at a noise level, pooled over positions, one forward pass for all taps.

At the level without noise an encoder sees the image as it is, and other networks see it as a process scales it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprobe.data.pixels import first_non_finite
from diffprobe.diffusion.activations import activations
from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Network, Process
from diffprobe.evaluation.model import Model
from diffprobe.evaluation.representation.chunks import BLOCK, CHUNK_BYTES
from diffprobe.evaluation.representation.inputs import ModelInputs
from diffprobe.networks.compiled import compiled
from diffprobe.networks.condition import Condition
from diffprobe.networks.flops import flops
from diffprobe.networks.pooling import POOLINGS
from diffprobe.plan.probe_arguments import FeatureSettings
from diffprobe.runtime.devices import is_bf16
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal

# FLOPs of a pass on a CPU, some ten seconds. More images at once would gain nothing there, and 56 images of 256 tokens
# take 2 GiB in a DiT-XL.
PASS = 2**40
ArraySpecs = Mapping[str, tuple[str, str]]  # by the array's name: a tap and a pooling


class Pass(NamedTuple):
    """One pass over the images of a split."""

    level: Level
    specs: ArraySpecs
    purpose: str  # which keys noise and latents, with the draw
    draw: int
    augmented: bool = False
    first: int = 0  # row of the split that it begins with


@dataclass(frozen=True)
class FeatureModel:
    """A network as a source of features, which depend on neither batch size nor split.

    A conditional network is given `label` for every image, or no label. With `encoded` a network that makes a code of
    the clean image is given that image at levels with noise too. The embeddings in `zeroed` are zeros (`Condition`).
    Without `noisy` it is shown images without noise, and told the level nevertheless.
    """

    network: Network
    process: Process
    seed: int
    device: torch.device
    batch: int = 256
    label: int | None = None
    bf16: bool = False
    encoded: bool = False
    zeroed: tuple[str, ...] = ()
    noisy: bool = True

    @classmethod
    def of(cls, model: Model, settings: FeatureSettings, batch: int, device: torch.device) -> "FeatureModel":
        """From a loaded model. Raises UserError for a network without taps."""
        if not model.taps:
            raise UserError("this network has no taps, so it has no features to be probed")
        bf16 = is_bf16(settings.precision, device, model.network)
        encoded = bool(model.clean_taps) and settings.code == "encoded"
        label, zeroed = settings.label, tuple(settings.zeroed)
        noisy = settings.input == "noisy"
        return cls(
            model.network, model.process, settings.noise_seed, device, batch, label, bf16, encoded, zeroed, noisy
        )

    @torch.inference_mode()
    def pooled(
        self, x: Tensor, rows: Tensor, level: Level, specs: ArraySpecs, key: Key, draw: int
    ) -> dict[str, Tensor]:
        """The activations of `specs`, pooled: float32 (B, D) each, or tokens (B, T, D).

        x (B, C, H, W) in the model's space; rows (B,) are the images' indices in the image store. They key the noise,
        with `key` and `draw`, so an image's features do not depend on the batch that it is in.
        """
        taps = list(dict.fromkeys(tap for tap, _ in specs.values()))  # each once, though pooled in two ways
        noise = normal(key, rows, tuple(x.shape[1:]), draw) if self.is_shown_noise(level) else None
        label = None if self.label is None else torch.full_like(rows, self.label)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            cond = Condition(label, zeroed=self.zeroed)
            tapped = activations(self.network, self.process, x, level.of(x), noise, cond, taps, self.encoded)
        return {name: POOLINGS[pooling](tapped[tap].float()) for name, (tap, pooling) in specs.items()}

    def is_shown_noise(self, level: Level) -> bool:
        """Whether images have noise at this level, so that each copy of one has other features."""
        return self.noisy and bool(level.sigma)

    def bounded(self, image_flops: int) -> "FeatureModel":
        """With fewer images at once where those of an image make passes on a CPU too large. It changes no feature."""
        at_once = max(1, PASS // max(1, image_flops)) if self.device.type == "cpu" else self.batch
        return replace(self, batch=min(self.batch, at_once))

    def compiled(self, work: float) -> "FeatureModel":
        """With its network compiled where `work` FLOPs make that worthwhile."""
        return replace(self, network=compiled(self.network, self.device, work))

    def image_flops(self, shape: tuple[int, int, int], level: Level, specs: ArraySpecs) -> int:
        """The FLOPs of the features of one image of `shape` (C, H, W)."""
        x, rows = torch.zeros(1, *shape, device=self.device), torch.zeros(1, dtype=torch.int64, device=self.device)
        return flops(lambda: self.pooled(x, rows, level, specs, Key(self.seed, "flops"), 0))

    def blocks(self, data: ModelInputs, of: Pass) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """The features of all images from row `first` on, at most BLOCK at a time: (rows of the split, name to
        (n, D), or to (n, T, D)).

        Noise and latents are keyed by seed, purpose, image and draw. Raises UserError for features that are not finite.
        """
        level, specs, purpose, draw, augmented, first = of
        view = "/augmented" if augmented else ""
        noise, posterior = (Key(self.seed, f"{purpose}{view}/{name}") for name in (level.name, "posterior"))
        while first < len(data.rows):
            stop, batches = min(first // BLOCK * BLOCK + BLOCK, len(data.rows)), list[dict[str, Tensor]]()
            for begin in range(first, stop, self.batch):
                batch = slice(begin, min(begin + self.batch, stop))
                rows = torch.from_numpy(data.rows[batch]).to(self.device)
                x = data.read(batch, posterior, draw, augmented)
                batches.append(self.pooled(x, rows, level, specs, noise, draw))
                held = len(batches) * max(x.nbytes for x in batches[-1].values())
                if batch.stop < stop and held < CHUNK_BYTES:
                    continue  # tokens of a thousand images may be a gigabyte
                features = {name: torch.cat([batch[name] for batch in batches]) for name in specs}
                block = slice(first, batch.stop)
                refuse_non_finite(features, data.rows[block], level, "hold NaN or infinite values")
                yield block, features
                first, batches = batch.stop, []


def refuse_non_finite(features: Mapping[str, Tensor], rows: np.ndarray, level: Level, problem: str) -> None:
    """Raise a UserError where a tap's features (B, D) of the images `rows` (B,) are not finite.

    It names the tap, the level and the image by its index in the store.
    """
    # One transfer from the device for all taps, since each would wait for it.
    finite = torch.stack([x.isfinite().all() for x in features.values()]).tolist()
    for (name, x), sound in zip(features.items(), finite, strict=True):
        if not sound:
            image = rows[first_non_finite(x)]
            raise UserError(
                f"features of the tap {name} at {level.title} {problem} for image {image}; use precision fp32, "
                "leave out the tap or the level, or probe another checkpoint"
            )
