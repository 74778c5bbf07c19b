"""What a latent store is made from: told when it is made, and asked for when it is read."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from diffprobe.config.latents import Identity, View
from diffprobe.data import images
from diffprobe.data.splits import SPLITS
from diffprobe.data.views import StoredView, expand
from diffprobe.latents.completion import Numbers
from diffprobe.latents.parts import Store
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import sha256

PLAIN = [Identity(kind="identity")]


def planned(
    config: dict, path: Path, image_store: Path, codec: dict, autoencoder: Path, dtype: str, holds: str
) -> Store:
    """The store at `path` that the config's `views`, `seed` and `shard_chunks` ask for.

    `codec` is the autoencoder's (size, resize, channels), `dtype` what it computes in. train is stored in all views,
    the other splits as they are.
    """
    counts, origin = made_from(image_store, autoencoder)
    identity = {**origin, "codec": codec, "dtype": dtype}
    return Store(path, identity, config["seed"], counts, views(config, counts), config["shard_chunks"], holds)


def views(config: dict, counts: dict[str, int]) -> dict[str, list[StoredView]]:
    train = TypeAdapter(list[View]).validate_python(config["views"])
    return {split: expand(train if split == "train" else PLAIN) for split in counts}


def numbers(scale: str | float, published: Numbers | None) -> Numbers | None:
    """What follows from the config's scale: None where it is to be measured, the autoencoder's own numbers where it is
    `published`, or a number as scale with no shift. Raises UserError where the autoencoder has none.
    """
    if scale == "measured":
        return None
    if scale != "published":
        return {"scale": float(scale), "shift": 0.0}
    if published is None:
        raise UserError("the autoencoder's config says no scale; set latents.NAME.scale to measured or a number")
    return published


def expected(config: dict, image_store: Path, autoencoder: Path) -> dict[str, Any]:
    """The identity that a store must have to be read for this config, these images and this autoencoder."""
    counts, origin = made_from(image_store, autoencoder)
    if config["imported"]:
        return {"dataset": origin["dataset"], "imported": config["imported"], "scale": config["scale"]}
    return {**origin, "seed": config["seed"], "views": views(config, counts), "scale": config["scale"]}


def made_from(image_store: Path, autoencoder: Path) -> tuple[dict[str, int], dict[str, str]]:
    """The images of each split that has any, and the hashes of images and autoencoder."""
    found = images.describe(image_store)
    counts = {split: found[split] for split in SPLITS if found[split]}
    return counts, {"dataset": found["content"], "autoencoder": sha256(autoencoder)}
