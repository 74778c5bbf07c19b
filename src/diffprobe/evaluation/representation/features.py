"""Features: activations of a network's taps at a noise level, pooled over positions, one forward pass for all taps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprobe.diffusion.levels import Level
from diffprobe.diffusion.process import Network, Process, perturb
from diffprobe.evaluation.representation.chunks import BLOCK
from diffprobe.evaluation.representation.inputs import Inputs
from diffprobe.networks.condition import NOTHING, Condition
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal


def mean(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C)."""
    return h.mean(dim=(2, 3))


def mean_std(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 2C): means, then standard deviations."""
    std, average = torch.std_mean(h, dim=(2, 3), correction=0)
    return torch.cat([average, std], dim=1)


def tokens(h: Tensor) -> Tensor:
    """(B, C, H, W) to (B, CHW): every position's features."""
    return h.flatten(1)


POOLINGS = {"mean": mean, "mean_std": mean_std, "tokens": tokens}
Wanted = Mapping[str, tuple[str, str]]  # by the name it gets: a tap and a pooling


@dataclass(frozen=True)
class Extractor:
    """A network as a source of features. No batch size and no split changes a feature.

    A conditional network is told `label` of every image, or nothing.
    """

    network: Network
    process: Process
    seed: int
    device: torch.device
    batch: int = 256
    label: int | None = None
    bf16: bool = False

    @torch.inference_mode()
    def pooled(self, x: Tensor, rows: Tensor, level: Level, wanted: Wanted, key: Key, draw: int) -> dict[str, Tensor]:
        """Each wanted activation, float32 (B, D).

        x (B, C, H, W) in the model's space; rows (B,) its images' indices in the image store, by which the noise is
        drawn from `key` and `draw`.
        """
        noise = normal(key, rows, tuple(x.shape[1:]), draw)
        levels = level.of(x)
        cond = NOTHING if self.label is None else Condition(torch.full_like(rows, self.label))
        noisy = perturb(x, levels, noise).contiguous(memory_format=torch.channels_last)
        taps = list(dict.fromkeys(tap for tap, _ in wanted.values()))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            _, found = self.process.denoise(self.network, noisy, levels, cond, taps=taps, features_only=True)
        return {name: POOLINGS[pooling](found[tap].float()) for name, (tap, pooling) in wanted.items()}

    def blocks(
        self, data: Inputs, level: Level, wanted: Wanted, purpose: str, draw: int, augmented: bool = False
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """The features of all images, 1,024 at a time: (rows of the split, name to (n, D)).

        Noise and latents are drawn by `purpose`, seed, image and draw.
        """
        kind = "/augmented" if augmented else ""
        noise, posterior = (Key(self.seed, f"{purpose}{kind}/{name}") for name in (level.name, "posterior"))
        for start in range(0, len(data.rows), BLOCK):
            whole = slice(start, min(start + BLOCK, len(data.rows)))
            parts = []
            for begin in range(whole.start, whole.stop, self.batch):
                part = slice(begin, min(begin + self.batch, whole.stop))
                rows = torch.from_numpy(data.rows[part]).to(self.device)
                x = data.read(part, posterior, draw, augmented)
                parts.append(self.pooled(x, rows, level, wanted, noise, draw))
            yield whole, {name: torch.cat([part[name] for part in parts]) for name in wanted}


def extractor(trained: Any, config: Mapping[str, Any], batch: int, device: torch.device) -> Extractor:
    """From a loaded model (`evaluation.model`) and the config of its features.

    Raises UserError for a network without taps.
    """
    if not getattr(trained.network, "taps", None):
        raise UserError("this network has no taps, so it has no features to be probed")
    options = {"batch": batch, "label": config["label"], "bf16": config["precision"] == "bf16"}
    return Extractor(trained.network, trained.process, config["noise_seed"], device, **options)
