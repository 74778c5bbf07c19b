"""One split as a model sees it, for its features: pixels, or latents; as they are, or augmented."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffprobe.config.views import Crop, RandomView
from diffprobe.data import images, views
from diffprobe.data.convert import resize_array
from diffprobe.data.pixels import to_float
from diffprobe.data.random_view import random_view
from diffprobe.data.views import StoredView
from diffprobe.latents.store import LatentStore, open_store
from diffprobe.plan.memory import MOST_HELD
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Draws, Key, normal, some_of

SUBSET = Key(0, "subset of features")
IDENTITY: StoredView = {"kind": "identity"}
MIRROR: StoredView = {"kind": "mirror"}


Part = slice | np.ndarray  # images of a split: from one to another, or by their places, int64 (B,) in any order


class ModelInputs(NamedTuple):
    """The images of one split, on demand."""

    rows: np.ndarray  # int64 (N,): indices in the image store, by which noise is drawn
    # (images of the split, key, draw, augmented) to x (B, C, H, W) in the model's space
    read: Callable[[Part, Key, int, bool], Tensor]
    views: int = 1  # of an unaugmented image, in turn by draw: itself, and with 2 its mirror image
    sampled: bool = False  # whether an unaugmented image differs from draw to draw, as samples of a posterior do


def open_inputs(
    store: Path,
    splits: Sequence[str],
    device: torch.device,
    content: str | None,
    augmentation: Crop | RandomView | None = None,
    latents_as: str = "sample",
    image: tuple[int, int, int] | None = None,
    own: Path | None = None,
    mirrored: bool = False,
) -> dict[str, ModelInputs]:
    """The splits of an image store (.h5), or of a finished store of latents (its zarr.json).

    The augmented copy number `draw` of pixels is keyed by the key's seed, image and draw; that of latents is one of the
    store's views after the first, where the split has any. A latent is a sample of its posterior, keyed in the same
    way, or with `latents_as` of `mean` its mean. `content` is that of the latents which the model was trained on;
    raises UserError where the store holds others.

    Images of another dataset than the model's are brought to its shape `image` (H, W, C) before anything else. Latents
    of another dataset are scaled as those in the store `own`, which the model was trained on.

    With `mirrored` every second draw of unaugmented pixels is mirrored left to right.
    """
    if store.suffix == ".h5":
        by = augmentation or Crop()
        held = MOST_HELD // len(splits)
        return {split: pixel_inputs(SplitImages(store, split, held), device, by, image, mirrored) for split in splits}
    latents = open_store(store.parent)
    trained_on = latents if own is None else open_store(own.parent)
    if trained_on.content != content:
        raise UserError(f"{trained_on.path}: not the latents that this model was trained on; run the workflow again")
    latents = scaled_as(trained_on, latents)
    return {split: latent_inputs(latents, split, device, latents_as == "sample") for split in splits}


def scaled_as(own: LatentStore, other: LatentStore) -> LatentStore:
    """Latents in the scale of others by the same autoencoder. Raises UserError where another one made them."""
    # Imported latents do not say who made them.
    makers = [store.identity.get("autoencoder") for store in (own, other)]
    if makers[0] != makers[1] and None not in makers:
        raise UserError(f"{other.path}: not by the autoencoder that made {own.path}; run the workflow again")
    return replace(other, scale=own.scale, shift=own.shift)


class SplitImages:
    """The images of a split uint8 (N, H, W, C): held where they take at most so many bytes, else read as needed.

    The store stays open as long as they live, so that all are of the same file.
    """

    def __init__(self, path: Path, split: str, most: int) -> None:
        self.file = images.open_store(path)
        self.rows = images.rows_of(self.file, [split])  # int64 (N,)
        size = len(self.rows) * math.prod(self.file.shape[1:])
        self.held = images.gather(self.file, self.rows) if size <= most else None

    def __getitem__(self, part: Part) -> np.ndarray:
        return images.gather(self.file, self.rows[part]) if self.held is None else self.held[part]


def pixel_inputs(
    data: SplitImages,
    device: torch.device,
    by: Crop | RandomView,
    image: tuple[int, int, int] | None = None,
    mirrored: bool = False,
) -> ModelInputs:
    """Images of a split as floats (B, C, H, W) in [-1, 1] on the device; augmented copies are made `by` crops or views.

    They are brought to the shape `image` (H, W, C) first. With `mirrored` every second unaugmented draw is mirrored.
    """
    turns = (IDENTITY, MIRROR)[: 1 + mirrored]

    def read(part: Part, key: Key, draw: int, augmented: bool) -> Tensor:
        pixels = torch.from_numpy(fitted(data[part], image)).to(device)  # (B, H, W, C)
        rows = torch.from_numpy(data.rows[part]).to(device)
        if not augmented:
            return to_float(views.apply(turns[draw % len(turns)], pixels, rows, key.seed))
        return augmented_copy(pixels, rows, key.seed, draw, by)

    return ModelInputs(data.rows, read, len(turns))


def fitted(pixels: np.ndarray, image: tuple[int, int, int] | None) -> np.ndarray:
    """Images uint8 (B, H, W, C) of the shape `image`, as a dataset of these images with that size and channels has."""
    if image is None or pixels.shape[1:] == image:
        return pixels
    return np.stack([resize_array(one, "image", image[0], image[2], "crop") for one in pixels])


def augmented_copy(pixels: Tensor, rows: Tensor, seed: int, draw: int, by: Crop | RandomView) -> Tensor:
    """Copy number `draw` of images uint8 (B, H, W, C) with the indices `rows` (B,): floats (B, C, H, W) in [-1, 1]."""
    if isinstance(by, RandomView):
        return random_view(to_float(pixels), Draws(seed, rows, f"augmented copy {draw}/"), by)
    return to_float(views.apply(crop_view(by, draw), pixels, rows, seed))


def crop_view(by: Crop, draw: int) -> StoredView:
    return {"kind": "crop", "pad": by.pad, "fill": by.fill, "flip": by.flip, "draw": draw}


def mask_copy(masks: Tensor, rows: Tensor, seed: int, draw: int, by: Crop) -> Tensor:
    """The masks int64 (B, H, W) of the same copies: of no known class, -1, where `by` pads with zeros."""
    # A view moves whole pixels, so there is nothing between classes; zeros stand for black.
    return views.apply(crop_view(by, draw), (masks + 1)[..., None], rows, seed)[..., 0] - 1


def picked(n: int, images: int) -> np.ndarray:
    """The fixed subset of n images of a split: int64 (up to `images`,), rising.

    The first in a random order, since the first images of a sorted split would all be of one class.
    """
    return some_of(SUBSET, n, images).numpy()


def subset(inputs: ModelInputs, images: int) -> ModelInputs:
    """Only the images of the fixed subset."""
    return only(inputs, picked(len(inputs.rows), images))


def only(inputs: ModelInputs, places: np.ndarray) -> ModelInputs:
    """Only some of the images, by their places in the split, int64 (M,) in any order."""

    def read(part: Part, key: Key, draw: int, augmented: bool) -> Tensor:
        return inputs.read(places[part], key, draw, augmented)

    return inputs._replace(rows=inputs.rows[places], read=read)


def latent_inputs(latents: LatentStore, split: str, device: torch.device, sampled: bool) -> ModelInputs:
    rows, others = latents.rows(split), len(latents.views[split]) - 1  # the first view is the image as it is

    def read(part: Part, key: Key, draw: int, augmented: bool) -> Tensor:
        if isinstance(part, np.ndarray):
            return torch.cat([read(slice(i, i + 1), key, draw, augmented) for i in part.tolist()])
        view = 1 + draw % others if augmented and others else 0  # draws beyond the views take them again
        moments = torch.from_numpy(latents.moments(split, view, part.start, part.stop)).to(device)
        noise = normal(key, torch.from_numpy(rows[part]).to(device), latents.shape, draw) if sampled else None
        return latents.draw(moments, noise)

    return ModelInputs(rows, read, sampled=sampled)
