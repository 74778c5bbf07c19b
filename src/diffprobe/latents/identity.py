"""What a latent store is made from: recorded when it is made, checked when it is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffprobe.config.latents import Identity, View
from diffprobe.data import images
from diffprobe.data.views import StoredView, expand
from diffprobe.latents.completion import Scaling
from diffprobe.latents.parts import StorePlan
from diffprobe.latents.settings import EncodedSettings, EncodingSettings, ImportedSettings, Scale, SourceSettings
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256
from diffprobe.runtime.tensors import CHECKPOINT, check


class EncoderFacts(NamedTuple):
    """What of an autoencoder decides the moments that it encodes."""

    weights: Path
    codec: Mapping[str, Any]  # of its checkpoint's header: size, channels, resize
    dtype: str  # of its arithmetic
    holds: str  # moments, or latents


def plan_store(settings: EncodingSettings, path: Path, image_store: Path, encoder: EncoderFacts) -> StorePlan:
    """The store at `path` that the settings ask for: train in all views, the other splits as they are."""
    counts, origin = describe_origin(image_store, encoder.weights)
    identity = {**origin, "codec": encoder.codec, "dtype": encoder.dtype, **pixel_range(settings)}
    views = views_by_split(settings.views, counts)
    return StorePlan(path, identity, settings.seed, counts, views, settings.shard_chunks, encoder.holds)


def views_by_split(views: Sequence[View], splits: Mapping[str, int]) -> dict[str, list[StoredView]]:
    identity = [Identity(kind="identity")]  # select and test are measured on images as they are
    return {split: expand(views if split == "train" else identity) for split in splits}


def configured_scaling(scale: Scale, published: Scaling | None) -> Scaling | None:
    """What the config's scale amounts to: None where it is to be measured, the autoencoder's own where it is
    `published`, or a number as scale with no shift. Raises UserError where the autoencoder publishes none.
    """
    if scale == "measured":
        return None
    if scale != "published":
        return {"scale": float(scale), "shift": 0.0}
    if published is None:
        raise UserError("the autoencoder's config says no scale; set latents.NAME.scale to measured or a number")
    return published


def expected_identity(settings: SourceSettings, image_store: Path, autoencoder: Path) -> dict[str, Any]:
    """The identity that a store must have to be read with these settings, images and autoencoder."""
    counts, origin = describe_origin(image_store, autoencoder)
    # Imported latents carry no hash of the autoencoder: nobody can tell which weights made them.
    if isinstance(settings, ImportedSettings):
        imported = settings.imported.model_dump()
        return {"dataset": origin["dataset"], "imported": imported, "scale": settings.scale}
    views = views_by_split(settings.views, counts)
    return {**origin, **pixel_range(settings), "seed": settings.seed, "views": views, "scale": settings.scale}


def pixel_range(settings: EncodingSettings | EncodedSettings) -> dict[str, str]:
    """What an identity says of pixels that are not in [-1, 1]."""
    return {"normalise": settings.normalise} if settings.normalise else {}


def describe_origin(image_store: Path, autoencoder: Path) -> tuple[dict[str, int], dict[str, str]]:
    """The number of images in each split that has any, and the hashes of images and autoencoder.

    Raises UserError where either is damaged.
    """
    check(autoencoder, CHECKPOINT)  # or a store would be blamed, and removed, for the damage of its autoencoder
    summary = images.describe(image_store)
    counts = {"train": summary["train"], "select": summary["select"], "test": summary["test"]}
    origin = {"dataset": summary["content"], "autoencoder": sha256(autoencoder)}
    return {split: count for split, count in counts.items() if count}, origin  # a zarr array has rows
