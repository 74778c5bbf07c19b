"""Trains diffusion models, measures what they generate and what they have learned; a Snakemake workflow runs it."""

from __future__ import annotations

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
) -> TrainedModel:
    """A trained model: its features of any images, and its samples. Imports torch.

    `run` is the folder of a run (its checkpoint at `kimg`, or the latest), the folder of a checkpoint, or a
    .safetensors file. `weights` is an average's name, `raw`, or None for the first in the file. A model of latents
    also needs its `autoencoder`, named in the same way as `run`. Raises UserError where there is no such checkpoint.
    """
    from diffprobe.trained import TrainedModel

    return TrainedModel.open(run, kimg, weights, autoencoder, device)
