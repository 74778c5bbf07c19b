"""Latents in shards of safetensors (LightningDiT): latents_rank00_shard000.safetensors and so on."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from diffprobe.config.latents import Peers
from diffprobe.data.views import StoredView
from diffprobe.interop.latents.peers import Encoded, PeerLatents, as_labels, existing_folder, latents_shape
from diffprobe.runtime.errors import UserError, one_line

NAME = re.compile(r"latents_rank(\d+)_shard(\d+)\.safetensors")
VIEWS: dict[str, StoredView] = {"latents": {"kind": "identity"}, "latents_flip": {"kind": "mirror"}}
FLOATS = ("F16", "BF16", "F32", "F64")
INTEGERS = ("I8", "I16", "I32", "I64", "U8")
EXPECTED = "latents_rank00_shard000.safetensors and so on"


class PeerShard(NamedTuple):
    path: Path
    rank: int
    number: int
    rows: int


def open_shards(peers: Peers) -> PeerLatents:
    """Shards with `latents` (n, c, h, w) of images as they are, `latents_flip` of mirrored ones, `labels` (n,).

    Each of R ranks has encoded every R-th image, starting at its own number, and the last ones have wrapped round to
    the first images so that all ranks have equally many (torch's DistributedSampler). Raises UserError.
    """
    return PeerLatents(sharded(peers.path), sharded(peers.test) if peers.test else None)


def sharded(path: str) -> Encoded:
    """A folder of shards, its rows in the images' own order."""
    folder = existing_folder(path, EXPECTED)
    matches = (NAME.fullmatch(file.name) for file in folder.iterdir())
    names = sorted((int(match[1]), int(match[2]), folder / match[0]) for match in matches if match)
    if not names:
        raise UserError(f"{folder}: holds no {EXPECTED}; check the path")
    first = tensor_shapes(names[0][2])
    shards = [PeerShard(file, rank, number, rows_of(file, first)) for rank, number, file in names]
    refuse_gaps(folder, shards)
    order = RankOrder(shards, read_rows)  # files are opened when their rows are read, never all at once
    total = sum(shard.rows for shard in shards)
    _, *row = first["latents"]
    channels, height, width = row
    labels = None
    if "labels" in first:
        labels = as_labels(folder, order.gather(np.arange(total), "labels", first["labels"][1:]), total)
    views = [name for name in VIEWS if name in first]
    return Encoded(
        name=str(folder),
        shape=(total, channels, height, width),
        views=[VIEWS[name] for name in views],
        read=lambda view, positions: order.gather(positions, views[view], tuple(row)),
        labels=labels,
        padding=order.ranks - 1,
    )


class RankOrder:
    """Shards by rank, as one array: image i is row i // R of rank i % R. `read` is `read_rows`."""

    def __init__(self, shards: list[PeerShard], read: Callable[[Path, str, np.ndarray], np.ndarray]) -> None:
        self.shards, self.ranks, self.read = shards, shards[-1].rank + 1, read
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])  # of each shard among all rows

    def gather(self, positions: np.ndarray, name: str, row: tuple[int, ...]) -> np.ndarray:
        """A tensor's rows for the images at positions (n,): (n, *row), labels int64, others float32."""
        rows_per_rank = self.starts[-1] // self.ranks
        stored = positions % self.ranks * rows_per_rank + positions // self.ranks
        shard = np.searchsorted(self.starts, stored, side="right") - 1
        gathered = np.empty((len(positions), *row), np.int64 if name == "labels" else np.float32)
        # Sorted by where they are stored, each shard is opened once and read forwards.
        order = np.argsort(stored, kind="stable")
        for indices in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1) if len(order) else ():
            number = int(shard[indices[0]])
            gathered[indices] = self.read(self.shards[number].path, name, stored[indices] - self.starts[number])
        return gathered


def read_rows(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    """Rows (n,) of a tensor, ascending; neighbours are read at once."""
    # One slice per run of neighbours: safetensors slices are contiguous, and a read per row would be 256 reads a chunk.
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    with opened(path) as file:
        tensor = file.get_slice(name)
        values = torch.cat([tensor[int(run[0]) : int(run[-1]) + 1] for run in runs])
    return (values.float() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of tensors, read lazily. Raises UserError where it is damaged or missing."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); make it again") from None


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of those of a shard's tensors that are read; `latents` is among them. Raises UserError."""
    with opened(path) as file:
        names = [name for name in file.keys() if name in (*VIEWS, "labels")]  # noqa: SIM118 (it is no mapping)
        tensors = {name: file.get_slice(name) for name in names}
        shapes = {name: tuple(tensor.get_shape()) for name, tensor in tensors.items()}
        if "latents" not in shapes:
            raise UserError(f"{path}: has no tensor `latents`; make it again")
        for name in VIEWS.keys() & shapes.keys():
            dtype = np.float32 if tensors[name].get_dtype() in FLOATS else np.int64
            latents_shape(path, np.dtype(dtype), shapes[name])
        if "labels" in tensors and tensors["labels"].get_dtype() not in INTEGERS:
            raise UserError(f"{path}: labels are {tensors['labels'].get_dtype()}, not integers; make it again")
    return shapes


def rows_of(path: Path, first: dict[str, tuple[int, ...]]) -> int:
    """The number of rows of a shard, whose tensors must be like those of the first. Raises UserError."""
    shapes = tensor_shapes(path)
    rows = shapes["latents"][0]
    for name, shape in first.items():
        if shapes.get(name) != (rows, *shape[1:]):
            raise UserError(
                f"{path}: {name} is {shapes.get(name, 'missing')}; expected {(rows, *shape[1:])}; make it again"
            )
    return rows


def refuse_gaps(folder: Path, shards: list[PeerShard]) -> None:
    """Raise UserError where a shard is missing: ranks and shards count from 0, and all ranks have as many rows."""
    if shards[-1].rank >= len(shards):  # before a list is made of as many ranks as a file's name claims
        raise UserError(
            f"{folder}: has {len(shards)} shards, but one of rank {shards[-1].rank}; shards are missing, copy them too"
        )
    ranks = [[shard for shard in shards if shard.rank == rank] for rank in range(shards[-1].rank + 1)]
    first_rows = sum(shard.rows for shard in ranks[0])
    for rank, own in enumerate(ranks):
        if [shard.number for shard in own] != list(range(len(own))):
            raise UserError(f"{folder}: of rank {rank} a shard before {own[-1].path.name} is missing, copy it too")
        rows = sum(shard.rows for shard in own)
        if rows != first_rows or not rows:
            raise UserError(
                f"{folder}: rank {rank} has {rows} rows, rank 0 {first_rows}; "
                "shards are missing or mixed, copy all of one run"
            )
