"""Latents from elsewhere into a store, part by part; what a killed run has written is kept."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from diffprobe.config.latents import Peers
from diffprobe.data import images
from diffprobe.data.views import StoredView
from diffprobe.interop.latents.arrays import open_files, open_npy
from diffprobe.interop.latents.fitting import PlacedSplit, place
from diffprobe.interop.latents.peers import PeerLatents
from diffprobe.interop.latents.shards import open_shards
from diffprobe.latents.encoding import as_stored
from diffprobe.latents.parts import CHUNK, StorePart, StorePlan, missing_parts, write_part
from diffprobe.latents.settings import ImportSettings
from diffprobe.runtime.errors import UserError

READERS: dict[str, Callable[[Peers], PeerLatents]] = {
    "npy": open_npy,
    "files": open_files,
    "safetensors": open_shards,
}


def open_placed(peers: Peers, image_store: Path, shape: tuple[int, int, int]) -> dict[str, PlacedSplit]:
    """Another system's latents by split of the dataset; `shape` is the autoencoder's (C, h, w).

    Raises UserError for files that are damaged, of another shape, or of other images.
    """
    peer = READERS[peers.kind](peers)
    channels, h, w = shape
    doubled = (2 * channels, h, w)
    # One array per image is a sample, or a mean; twice the channels are mean and log-variance.
    for encoded in filter(None, peer):
        if encoded.shape[1:] not in (shape, doubled):
            raise UserError(
                f"{encoded.name}: holds {encoded.shape[1:]} for each image, but latents of this autoencoder are "
                f"{shape}, or with their log-variances {doubled}; name the autoencoder that they are of"
            )
    if peer.test and peer.test.shape[1:] != peer.train.shape[1:]:
        raise UserError(
            f"{peer.test.name}: holds {peer.test.shape[1:]} for each image, train "
            f"{peer.train.shape[1:]}; encode both alike"
        )
    return place(image_store, peer)


def plan_import(settings: ImportSettings, path: Path, image_store: Path, placed: dict[str, PlacedSplit]) -> StorePlan:
    """The store at `path`: train in all versions, the others in the first.

    Its bytes follow from the dataset, how the files are read, and `state`, which changes with them; not from where they
    are.
    """
    dataset = images.describe(image_store)["content"]
    identity = {"dataset": dataset, "imported": settings.imported.model_dump(), "state": settings.state}
    counts = {split: len(own.rows) for split, own in placed.items()}
    views: dict[str, list[StoredView]] = {}
    for split, own in placed.items():
        stored = own.encoded.views if split == "train" else own.encoded.views[:1]
        views[split] = [{**view, "draw": draw} for draw, view in enumerate(stored)]
    holds = "latents" if placed["train"].encoded.shape[1] == settings.shape[0] else "moments"
    # The seed is of views that are drawn here, and here none are.
    return StorePlan(path, identity, 0, counts, views, settings.shard_chunks, holds)


def write(
    plan: StorePlan, placed: dict[str, PlacedSplit], scaled: float, report: Callable[[int], None] = lambda rows: None
) -> None:
    """Write the parts that are missing; `report` is given the rows done so far, earlier runs' included.

    Memory holds one part, in float16, and one chunk of the files. Raises UserError for values that float16 cannot hold
    and for a full disk.
    """
    missing = missing_parts(plan)
    done = sum(part.rows for part in plan.parts) - sum(part.rows for part in missing)
    for part in missing:
        write_part(plan, part, read_part(plan, part, placed[part.split], scaled))
        done += part.rows
        report(done)


def read_part(plan: StorePlan, part: StorePart, placed: PlacedSplit, scaled: float) -> np.ndarray:
    """A part's moments or latents in the autoencoder's own scale, float16 (n, c, h, w)."""
    half = np.empty((part.rows, *placed.encoded.shape[1:]), np.float16)
    for start in range(0, part.rows, CHUNK):
        positions = placed.positions[part.start : part.stop][start : start + CHUNK]
        values = torch.from_numpy(placed.encoded.read(part.view, positions).astype(np.float32))  # (B, c, h, w)
        chunk = as_stored(unscaled(values, scaled, plan.holds), plan.holds).numpy()
        bad = np.flatnonzero(~np.isfinite(chunk).all(axis=(1, 2, 3)))
        if len(bad):
            raise UserError(
                f"{placed.encoded.name}: image {positions[bad[0]]} has values that are not finite, or beyond 65504 "
                "(float16's range) when divided by `scaled`; encode it again, or set latents.NAME.imported.scaled"
            )
        half[start : start + CHUNK] = chunk
    return half


def unscaled(values: torch.Tensor, scaled: float, holds: str) -> torch.Tensor:
    """Divided by the factor that they were multiplied by: a mean by it, a variance by its square."""
    if holds == "latents":
        return values / scaled
    mean, logvar = values.chunk(2, dim=1)  # (B, C, h, w) each
    return torch.cat([mean / scaled, logvar - 2 * math.log(scaled)], dim=1)
