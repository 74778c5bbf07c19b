"""Diffusion models: what they generate and what they have learned. The work itself is a Snakemake workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from diffprobe.trained import Trained


def load(
    run: str | Path,
    kimg: int | None = None,
    weights: str | None = "ema",
    autoencoder: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Trained:
    """A trained model, for its features of any images and its samples; torch is imported now.

    `run` is a run's folder (of its checkpoints that at `kimg`, or the latest), a checkpoint's folder, or a .safetensors
    file; `weights` an average's name, `raw`, or None for the first there is; `autoencoder` is for a model of latents,
    given as `run` is. Raises UserError, a line.
    """
    from diffprobe.trained import Trained

    return Trained.open(run, kimg, weights, autoencoder, device)
