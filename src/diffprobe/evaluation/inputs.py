"""One split as a model sees it, for its features: pixels, or latents of the first view."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import images
from diffprobe.data.pixels import to_float
from diffprobe.latents.store import Latents, open_store
from diffprobe.networks.autoencoder import posterior
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, normal


class Inputs(NamedTuple):
    rows: np.ndarray  # int64 (N,): indices in the image store, by which noise is drawn
    read: Callable[[slice, Key, int], Tensor]  # (images of the split, key, draw) to x (B, C, H, W) in the model's space


def open_inputs(store: Path, splits: Sequence[str], device: torch.device, content: str | None) -> dict[str, Inputs]:
    """The splits of an image store (.h5), or of a finished store of latents (its zarr.json).

    A latent is a sample of its posterior, drawn by (key, image, draw); pixels need no draw. `content` is that of
    the latents which the model was trained on. Raises UserError where the store holds others.
    """
    if store.suffix == ".h5":
        return {split: of_pixels(images.read(store, [split]), device) for split in splits}
    latents = open_store(store.parent)
    if latents.content != content:
        raise UserError(f"{store.parent}: not the latents that this model was trained on; run the workflow again")
    return {split: of_latents(latents, split, device) for split in splits}


def of_pixels(data: images.Images, device: torch.device) -> Inputs:
    return Inputs(data.rows, lambda part, *_: to_float(torch.from_numpy(data.images[part]).to(device)))


def of_latents(latents: Latents, split: str, device: torch.device) -> Inputs:
    rows = latents.rows(split)

    def read(part: slice, key: Key, draw: int) -> Tensor:
        moments = torch.from_numpy(latents.moments(split, 0, part.start, part.stop)).to(device).float()
        noise = normal(key, torch.from_numpy(rows[part]).to(device), latents.shape, draw)
        return latents.to_model(posterior(moments, noise))

    return Inputs(rows, read)
