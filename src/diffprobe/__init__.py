"""Trains diffusion models, measures what they generate and what they have learned; a Snakemake workflow runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from diffprobe.trained import TrainedModel


def load(
    run: str | Path,
    kimg: int | None = None,
    weights: str | None = "ema",
    autoencoder: str | Path | None = None,
    device: str | torch.device | None = None,
    plugins: Sequence[str | Path] = (),
) -> TrainedModel:
    """A trained model: its features of any images, and its samples. Imports torch.

    `run` is the folder of a run (its checkpoint at `kimg`, or the latest), the folder of a checkpoint, or a
    .safetensors file. `weights` is an average's name, `raw`, or None for the first in the file. A model of latents
    also needs its `autoencoder`, named in the same way as `run`; one with a network of your own needs its `plugins`, as
    the config lists them. Raises UserError where there is no such checkpoint.
    """
    from diffprobe.config.plugins import load as load_plugins
    from diffprobe.trained import TrainedModel

    load_plugins(list(map(str, plugins)), "diffprobe.load")
    return TrainedModel.open(run, kimg, weights, autoencoder, device)
