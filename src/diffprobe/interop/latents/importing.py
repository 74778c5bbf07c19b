"""Latents from elsewhere into a store, part by part; what a killed run has written is kept."""

import math
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprobe.data import images
from diffprobe.interop.latents.arrays import open_files, open_npy
from diffprobe.interop.latents.fitting import Placed, place
from diffprobe.interop.latents.peers import Peer
from diffprobe.interop.latents.shards import open_shards
from diffprobe.latents.encoding import stored
from diffprobe.latents.parts import CHUNK, Part, Store, claims, made, write_part
from diffprobe.runtime.errors import UserError

READERS: dict[str, Callable[[dict[str, Any]], Peer]] = {
    "npy": open_npy,
    "files": open_files,
    "safetensors": open_shards,
}


def open_placed(imported: dict[str, Any], image_store: Path, shape: tuple[int, ...]) -> dict[str, Placed]:
    """What `imported` names (kind, path, test), by split of the dataset; `shape` is the autoencoder's (C, h, w).

    Raises UserError for files that are damaged, of another shape, or of other images.
    """
    peer = READERS[imported["kind"]](imported)
    for encoded in filter(None, peer):
        if encoded.shape[1:] not in (shape, doubled(shape)):
            raise UserError(
                f"{encoded.name}: holds {encoded.shape[1:]} for each image, but latents of this autoencoder are "
                f"{shape}, or with their log-variances {doubled(shape)}; name the autoencoder that they are of"
            )
    if peer.test and peer.test.shape[1:] != peer.train.shape[1:]:
        raise UserError(f"{peer.test.name}: holds {peer.test.shape[1:]} for each image, train {peer.train.shape[1:]}")
    return place(image_store, peer)


def doubled(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (2 * shape[0], *shape[1:])


def planned(config: dict[str, Any], path: Path, image_store: Path, found: dict[str, Placed]) -> Store:
    """The store at `path`: train in all versions, the others in the first.

    What its bytes follow from is the dataset, how the files are read, and `state`, which tells when they change; not
    where they lie. So `imported` of the config is kind and scaled.
    """
    origin = {key: config[key] for key in ("imported", "state")}
    identity = {"dataset": images.describe(image_store)["content"], **origin}
    counts = {split: len(placed.rows) for split, placed in found.items()}
    views = {split: numbered(split, placed) for split, placed in found.items()}
    channels = config["shape"][0]
    holds = "latents" if found["train"].encoded.shape[1] == channels else "moments"
    return Store(path, identity, 0, counts, views, config["shard_chunks"], holds)


def numbered(split: str, placed: Placed) -> list[dict[str, Any]]:
    views = placed.encoded.views if split == "train" else placed.encoded.views[:1]
    return [{**view, "draw": draw} for draw, view in enumerate(views)]


def write(
    store: Store, found: dict[str, Placed], scaled: float, report: Callable[[int], None] = lambda rows: None
) -> None:
    """Write the parts that are missing; `report` is given the rows done so far, earlier runs' included.

    In memory are one part, in float16, and one chunk of the files. Raises UserError for what float16 does not hold and
    for a full disk.
    """
    done = sum(part.stop - part.start for part in store.parts if made(store, part))
    with closing(claims(store, store.parts)) as todo:
        for part, lock in todo:
            try:
                write_part(store, part, part_of(store, part, found[part.split], scaled))
            finally:
                os.close(lock)
            report(done := done + part.stop - part.start)


def part_of(store: Store, part: Part, placed: Placed, scaled: float) -> np.ndarray:
    """A part's moments or latents in the autoencoder's own scale, float16 (n, c, h, w)."""
    n = part.stop - part.start
    half = np.empty((n, *placed.encoded.shape[1:]), np.float16)
    for start in range(0, n, CHUNK):
        positions = placed.positions[part.start : part.stop][start : start + CHUNK]
        read = torch.from_numpy(placed.encoded.read(part.view, positions).astype(np.float32))  # (B, c, h, w)
        half[start : start + CHUNK] = stored(unscaled(read, scaled, store.holds), store.holds).numpy()
        refuse_not_finite(half[start : start + CHUNK], placed.encoded.name, positions)
    return half


def unscaled(values: torch.Tensor, scaled: float, holds: str) -> torch.Tensor:
    """Divided by what they were multiplied by: a mean by it, a log-variance by its square."""
    if holds == "latents":
        return values / scaled
    mean, logvar = values.chunk(2, dim=1)
    return torch.cat([mean / scaled, logvar - 2 * math.log(scaled)], dim=1)


def refuse_not_finite(half: np.ndarray, name: str, positions: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(half).all(axis=(1, 2, 3)))
    if len(bad):
        raise UserError(
            f"{name}: image {positions[bad[0]]} has values that are not finite, or beyond 65504 (float16's range) when "
            "divided by `scaled`; encode it again, or set latents.NAME.imported.scaled"
        )
