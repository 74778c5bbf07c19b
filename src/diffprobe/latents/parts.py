"""The parts of a latent store. A part is one shard, a file written whole by one writer, and a receipt beside the store:

    latents.zarr/{split}/moments/c/{view}/{number}/0/0/0    float16 moments of rows start..stop of one view
    parts/{split}.{view}.{number}.json                      what was written, and what it was made from

A part is done when its receipt has the identity that the plan asks for and its shard has the receipt's length. All
others are made again; nothing else is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from diffprobe.data.views import StoredView
from diffprobe.latents.shards import CHUNK
from diffprobe.runtime.arrays import create_array
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import clear_partials, digest, disk_errors, recorded, write_bytes, write_json
from diffprobe.runtime.manifests import ROOT

AGAIN = "run again, finished parts are kept"
ADDED = ("seed", "views", "scale")  # keys that `finish` adds to the identity


class StorePart(NamedTuple):
    """Rows start..stop of one view of a split; `number` counts the shards of that view."""

    split: str
    view: int
    number: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def name(self) -> str:
        return f"{self.split}.{self.view}.{self.number}"

    @property
    def key(self) -> str:
        """The shard's key in its array."""
        return f"c/{self.view}/{self.number}/0/0/0"


class PartReceipt(TypedDict):
    identity: str  # `StorePlan.identity_of` the part
    sha256: str  # of the shard
    bytes: int  # of the shard
    shape: list[int]  # of a row


@dataclass(frozen=True)
class StorePlan:
    """What a store is to hold.

    `identity` is everything that the moments follow from besides seed, views and rows: the autoencoder and the hash of
    its weights, the dataset and its hash, size, input range, precision. `views` holds each split's expanded views.
    `holds` is `moments`, mean and log-variance of posteriors, or `latents`, where there is no posterior: from an
    encoder without one, or samples that another system has stored.
    """

    path: Path  # latents.zarr
    identity: dict[str, Any]
    seed: int  # of the views
    counts: dict[str, int]  # rows of each split
    views: dict[str, list[StoredView]]
    shard_chunks: int  # chunks of 256 rows in a file
    holds: str = "moments"

    def __post_init__(self) -> None:
        if reserved := self.identity.keys() & set(ADDED):
            raise ValueError(f"identity holds {', '.join(sorted(reserved))}, which have fields of their own")

    @property
    def parts(self) -> list[StorePart]:
        views = {split: len(views) for split, views in self.views.items()}
        return plan_parts(self.counts, views, self.shard_chunks * CHUNK)

    def identity_of(self, part: StorePart) -> str:
        """A digest of what this part's bytes follow from. Other views of its split are not in it, so that adding one
        leaves the part valid.
        """
        view = self.views[part.split][part.view]
        rows = [list(part), self.shard_chunks, self.counts[part.split]]
        return digest([self.identity, self.seed, view, *rows, self.holds])


def receipts_folder(store: Path) -> Path:
    """Beside the store, so a folder holds one store."""
    return store.parent / "parts"


def receipt_path(store: Path, part: StorePart) -> Path:
    return receipts_folder(store) / f"{part.name}.json"


def shard_path(store: Path, part: StorePart) -> Path:
    return store / part.split / "moments" / part.key


def plan_parts(counts: Mapping[str, int], views: Mapping[str, int], shard_rows: int) -> list[StorePart]:
    """All parts of a store, split by split, view by view; the last of a view may be short."""
    return [
        StorePart(split, view, start // shard_rows, start, min(start + shard_rows, n))
        for split, n in counts.items()
        for view in range(views[split])
        for start in range(0, n, shard_rows)
    ]


def valid_receipt(plan: StorePlan, part: StorePart) -> PartReceipt | None:
    """A part's receipt, if it has the planned identity and its shard is there in full length; else None."""
    receipt, shard = recorded(receipt_path(plan.path, part)), shard_path(plan.path, part)
    if not isinstance(receipt, dict) or receipt.get("identity") != plan.identity_of(part):
        return None
    # By its length alone: hashing every shard at every start would take as long as making some. `verify` does it.
    complete = shard.is_file() and shard.stat().st_size == receipt.get("bytes")
    return cast(PartReceipt, receipt) if complete else None


def missing_parts(plan: StorePlan) -> list[StorePart]:
    return [part for part in plan.parts if valid_receipt(plan, part) is None]


def moments_array(files: dict[str, Buffer], plan: StorePlan, split: str, shape: tuple[int, ...]) -> zarr.Array:
    """The array (views, N, 2C, h, w) of a split; its metadata, and whatever is assigned, go into `files` by key.

    A lost chunk reads as NaN, which no moment is.
    """
    return create_array(
        MemoryStore(files),
        shape=(len(plan.views[split]), plan.counts[split], *shape),
        chunks=(1, CHUNK, *shape),
        shards=(1, CHUNK * plan.shard_chunks, *shape),
        dtype="float16",
        fill_value=np.float16("nan"),
    )


def write_part(plan: StorePlan, part: StorePart, moments: np.ndarray) -> None:
    """Write one whole shard, then its receipt; moments float16 (rows, 2C, h, w).

    Raises UserError for values that are not finite, and where the disk does not take the shard; nothing of the part is
    left then.
    """
    if len(moments) != part.rows or moments.dtype != np.float16:
        raise ValueError(f"{part.name}: got {moments.dtype} {moments.shape} for rows {part.start}..{part.stop}")
    if not np.isfinite(moments).all():
        raise UserError(
            f"{plan.path}: {part.name} would hold moments that are not finite or beyond 65504, float16's range; "
            "check the autoencoder's weights and its input range"
        )
    # zarr encodes the shard in memory, so that it can be hashed and written whole.
    files: dict[str, Buffer] = {}
    moments_array(files, plan, part.split, moments.shape[1:])[part.view, part.start : part.stop] = moments
    shard = files[part.key].to_bytes()
    receipt: PartReceipt = {
        "identity": plan.identity_of(part),
        "sha256": hashlib.sha256(shard).hexdigest(),
        "bytes": len(shard),
        "shape": list(moments.shape[1:]),
    }
    shard_file, receipt_file = shard_path(plan.path, part), receipt_path(plan.path, part)
    with disk_errors(shard_file, again=AGAIN):
        # The manifest goes first, so that it never stands on a store in change; the receipt before what it vouches for.
        (plan.path / ROOT).unlink(missing_ok=True)
        receipt_file.unlink(missing_ok=True)
        for file in (shard_file, receipt_file):
            clear_partials(file)  # of a writer that was killed; a part has one writer at a time
        write_bytes(shard_file, shard)
        write_json(receipt_file, receipt)
