"""The parts of a latent store. Part = shard = one file, written whole by one writer, its receipt outside the store.

    latents.zarr/{split}/moments/c/{view}/{index}/0/0/0     float16 moments of rows start..stop of one view
    parts/{split}.{view}.{index}.json                       beside the store: what was written, from what

A part counts as made when its receipt says that it was made from the same things and its shard has the receipt's
length. Everything else is made again; nothing else is.
"""

import hashlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.data.views import StoredView
from diffprobe.latents.shards import CHUNK
from diffprobe.runtime.arrays import create_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import clear_partials, digest, disk_errors, recorded, write_bytes, write_json
from diffprobe.runtime.locks import try_lock
from diffprobe.runtime.manifests import ROOT

AGAIN = "run again, finished parts are kept"
ADDED = ("seed", "views", "scale")  # what a finished store's identity holds beside the caller's


class Part(NamedTuple):
    """Rows start..stop of one view of a split; `index` counts the shards of that view."""

    split: str
    view: int
    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.split}.{self.view}.{self.index}"

    @property
    def key(self) -> str:
        """The shard's key in its array."""
        return f"c/{self.view}/{self.index}/0/0/0"


@dataclass(frozen=True)
class Store:
    """What a store is to hold.

    `identity` is all that the moments follow from beside seed, views and rows: autoencoder and hash of its weights,
    dataset and its hash, size, input range, precision. `views` holds each split's expanded views. `holds` is
    `moments`, mean and log-variance of posteriors, or `latents`, of what has no posterior: that of an encoder without
    one, or somebody else's samples.
    """

    path: Path
    identity: dict[str, Any]
    seed: int
    counts: dict[str, int]
    views: dict[str, list[StoredView]]
    shard_chunks: int
    holds: str = "moments"

    def __post_init__(self) -> None:
        if twice := self.identity.keys() & set(ADDED):
            raise ValueError(f"identity holds {', '.join(sorted(twice))}, which have a place of their own")

    @property
    def parts(self) -> list[Part]:
        views = {split: len(views) for split, views in self.views.items()}
        return plan(self.counts, views, self.shard_chunks * CHUNK)

    def identity_of(self, part: Part) -> str:
        """A digest of what this part's bytes follow from: another view of the split changes nothing in it."""
        view = self.views[part.split][part.view]
        made_from = [self.identity, self.seed, view, list(part), self.shard_chunks, self.counts[part.split]]
        return digest([*made_from, self.holds])


def receipts(store: Path) -> Path:
    """The folder of a store's receipts, beside it: so a folder holds one store."""
    return store.parent / "parts"


def receipt_of(store: Path, part: Part) -> Path:
    return receipts(store) / f"{part.name}.json"


def shard_of(store: Path, part: Part) -> Path:
    return store / part.split / "moments" / part.key


def plan(counts: dict[str, int], views: dict[str, int], shard_rows: int) -> list[Part]:
    """All parts of a store, split by split, view by view; the last of a view may be short."""
    return [
        Part(split, view, start // shard_rows, start, min(start + shard_rows, n))
        for split, n in counts.items()
        for view in range(views[split])
        for start in range(0, n, shard_rows)
    ]


def made(store: Store, part: Part) -> dict | None:
    """A part's receipt, where it is of the same identity and its shard is there in full length; else None."""
    receipt, shard = recorded(receipt_of(store.path, part)), shard_of(store.path, part)
    if not isinstance(receipt, dict) or receipt.get("identity") != store.identity_of(part):
        return None
    return receipt if shard.is_file() and shard.stat().st_size == receipt.get("bytes") else None


def missing(store: Store) -> list[Part]:
    return [part for part in store.parts if made(store, part) is None]


def claims(store: Store, among: Collection[Part]) -> Iterator[tuple[Part, int]]:
    """Those of these parts that are missing, each with its lock, for the caller to close, until none is missing.

    Any number of writers may share the work: one that finds all that is left in other hands waits for them.
    """
    poll = 0.01  # seconds; soon enough for a part that this process itself is about to have written
    while left := [part for part in among if made(store, part) is None]:
        took = False
        for part in left:
            lock = try_lock(receipt_of(store.path, part).with_suffix(".lock"))
            if lock is None:
                continue
            took = True
            if made(store, part) is None:
                clear_partials(shard_of(store.path, part))
                clear_partials(receipt_of(store.path, part))
                yield part, lock
            else:
                os.close(lock)
        if not took:
            time.sleep(poll)
            poll = min(2 * poll, 1.0)


def moments_array(files: dict[str, Buffer], store: Store, split: str, shape: tuple[int, ...]) -> zarr.Array:
    """The array (views, N, 2C, h, w) of a split, its metadata (and what is set) put into `files`, by key.

    What is lost reads as NaN, which no moment is.
    """
    return create_array(
        MemoryStore(files),
        shape=(len(store.views[split]), store.counts[split], *shape),
        chunks=(1, CHUNK, *shape),
        shards=(1, CHUNK * store.shard_chunks, *shape),
        dtype="float16",
        fill_value=np.float16("nan"),
    )


def write_part(store: Store, part: Part, moments: np.ndarray) -> None:
    """Write one whole shard, then its receipt; moments float16 (stop - start, 2C, h, w).

    The root's mark goes first, so that it never stands on a store in change. Raises UserError for values that are not
    finite and for a disk that does not take the shard; no part of it is left then.
    """
    if len(moments) != part.stop - part.start or moments.dtype != np.float16:
        raise ValueError(f"{part.name}: got {moments.dtype} {moments.shape} for rows {part.start}..{part.stop}")
    if not np.isfinite(moments).all():
        raise UserError(
            f"{store.path}: {part.name} would hold moments that are not finite or beyond 65504, float16's range; "
            "check the autoencoder's weights and its input range"
        )
    files: dict[str, Buffer] = {}
    moments_array(files, store, part.split, moments.shape[1:])[part.view, part.start : part.stop] = moments
    shard = files[part.key].to_bytes()
    with disk_errors(shard_of(store.path, part), again=AGAIN):
        (store.path / ROOT).unlink(missing_ok=True)
        receipt_of(store.path, part).unlink(missing_ok=True)
        write_bytes(shard_of(store.path, part), shard)
        write_json(
            receipt_of(store.path, part),
            {
                "identity": store.identity_of(part),
                "sha256": hashlib.sha256(shard).hexdigest(),
                "bytes": len(shard),
                "shape": moments.shape[1:],
            },
        )
