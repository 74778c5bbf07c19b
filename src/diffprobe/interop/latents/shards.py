"""Latents in shards of safetensors (LightningDiT): latents_rank00_shard000.safetensors and so on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from diffprobe.data.views import StoredView
from diffprobe.interop.latents.peers import Encoded, Peer, folder, labels_of, refuse_no_latents
from diffprobe.runtime.errors import UserError, one_line

NAME = re.compile(r"latents_rank(\d+)_shard(\d+)\.safetensors")
VIEWS: dict[str, StoredView] = {"latents": {"kind": "identity"}, "latents_flip": {"kind": "mirror"}}
FLOATS = ("F16", "BF16", "F32", "F64")
EXPECTED = "latents_rank00_shard000.safetensors and so on"


class Shard(NamedTuple):
    path: Path
    rank: int
    number: int
    rows: int


def open_shards(imported: dict[str, Any]) -> Peer:
    """Shards with `latents` (n, c, h, w) of images as they are, `latents_flip` of mirrored ones, `labels` (n,).

    Each rank has encoded every R-th image from its own number on, R being the number of ranks, and the last ones have
    begun from the front again so that all have equally many (torch's DistributedSampler). Raises UserError.
    """
    train, test = imported["path"], imported["test"]
    return Peer(sharded(train), sharded(test) if test else None)


def sharded(path: str) -> Encoded:
    """A folder of shards, its rows in the images' own order."""
    place = folder(path, EXPECTED)
    matches = (NAME.fullmatch(file.name) for file in place.iterdir())
    names = sorted((int(found[1]), int(found[2]), place / found[0]) for found in matches if found)
    if not names:
        raise UserError(f"{place}: holds no {EXPECTED}")
    first = described(names[0][2])
    shards = [Shard(file, rank, number, rows_of(file, first)) for rank, number, file in names]
    refuse_gaps(place, shards)
    order = Order(shards)
    total = sum(shard.rows for shard in shards)
    row = first["latents"][1:]
    labels = None
    if "labels" in first:
        labels = labels_of(place, order.gathered(np.arange(total), "labels", first["labels"][1:]), total)
    views = [name for name in VIEWS if name in first]
    return Encoded(
        name=str(place),
        shape=(total, *row),
        views=[VIEWS[name] for name in views],
        read=lambda view, positions: order.gathered(positions, views[view], row),
        labels=labels,
        padding=order.ranks - 1,
    )


class Order:
    """Shards by rank, as one array: image i is row i // R of rank i % R."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards, self.ranks = shards, shards[-1].rank + 1
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])  # of each shard among all rows

    def gathered(self, positions: np.ndarray, name: str, row: tuple[int, ...]) -> np.ndarray:
        """What a tensor says of the images at positions (n,): (n, *row), float32 of any floats, int64 of any others."""
        each = self.starts[-1] // self.ranks  # rows of a rank
        stored = positions % self.ranks * each + positions // self.ranks
        shard = np.searchsorted(self.starts, stored, side="right") - 1
        found = np.empty((len(positions), *row), np.int64 if name == "labels" else np.float32)
        order = np.argsort(stored, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1) if len(order) else ():
            number = int(shard[part[0]])
            found[part] = read_rows(self.shards[number].path, name, stored[part] - self.starts[number])
        return found


def read_rows(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    """Rising rows (n,) of a tensor, those next to each other at once."""
    pieces = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    with opened(path) as file:
        tensor = file.get_slice(name)
        found = torch.cat([tensor[int(piece[0]) : int(piece[-1]) + 1] for piece in pieces])
    return (found.float() if found.is_floating_point() else found).numpy()


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of tensors, of which only what is asked for is read. Raises UserError where it is damaged or none."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); make it again") from None


def described(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a shard that are known here, with their shapes; `latents` among them. Raises UserError."""
    with opened(path) as file:
        known = [name for name in file.keys() if name in (*VIEWS, "labels")]  # noqa: SIM118 (it is no mapping)
        tensors = {name: file.get_slice(name) for name in known}
        shapes = {name: tuple(tensor.get_shape()) for name, tensor in tensors.items()}
        if "latents" not in known:
            raise UserError(f"{path}: has no tensor `latents`")
        for name in VIEWS.keys() & shapes.keys():
            kind = tensors[name].get_dtype()
            refuse_no_latents(path, np.float32 if kind in FLOATS else np.dtype(np.int64), shapes[name])
    return shapes


def rows_of(path: Path, first: dict[str, tuple[int, ...]]) -> int:
    """The rows of a shard, whose tensors must be like those of the first. Raises UserError."""
    shapes = described(path)
    rows = shapes["latents"][0]
    for name, shape in first.items():
        if shapes.get(name) != (rows, *shape[1:]):
            raise UserError(f"{path}: {name} is {shapes.get(name, 'missing')}, but {(rows, *shape[1:])} is due")
    return rows


def refuse_gaps(place: Path, shards: list[Shard]) -> None:
    """Raise UserError where a shard is missing: ranks and shards count from 0, and all ranks have as many rows."""
    ranks = [[shard for shard in shards if shard.rank == rank] for rank in range(shards[-1].rank + 1)]
    for rank, own in enumerate(ranks):
        if [shard.number for shard in own] != list(range(len(own))):
            raise UserError(f"{place}: of rank {rank} a shard before {own[-1].path.name} is missing")
        rows, due = (sum(shard.rows for shard in some) for some in (own, ranks[0]))
        if rows != due or not rows:
            raise UserError(f"{place}: rank {rank} has {rows} rows, rank 0 {due}; shards are missing or mixed")
