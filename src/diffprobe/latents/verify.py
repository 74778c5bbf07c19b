"""What is wrong with a finished latent store, and how to have just that made again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from zarr.core.buffer import Buffer, default_buffer_prototype

from diffprobe.latents.completion import content
from diffprobe.latents.parts import ADDED, CHUNK, Part, Store, moments_array, receipt_of, shard_of
from diffprobe.latents.store import Latents, attributes, open_store, stored_shape
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json, remove
from diffprobe.runtime.manifests import ROOT


class Problem(NamedTuple):
    """`text` names the file and what is wrong with it; `part` is what to make again, where that is a shard."""

    text: str
    part: Part | None = None


def verify(path: Path) -> list[Problem]:
    """Everything wrong with a finished store, in one pass over all its bytes; empty where all is well."""
    try:
        found = attributes(path)
    except UserError as error:
        return [Problem(str(error))]
    store, shape = planned(path, found), stored_shape(found["shape"], found["holds"])
    problems = [problem for part in store.parts for problem in check_part(store, part, shape)]
    try:
        latents = open_store(path)
    except UserError as error:
        return [*problems, Problem(str(error))]
    problems += check_arrays(store, latents, shape)
    return problems or check_content(store, latents, found["content"])


def planned(path: Path, found: dict[str, Any]) -> Store:
    """The store that the root's attributes tell of."""
    identity = {key: value for key, value in found["identity"].items() if key not in ADDED}
    seed, views = found["identity"]["seed"], found["identity"]["views"]
    return Store(path, identity, seed, found["counts"], views, found["shard_chunks"], found["holds"])


def check_part(store: Store, part: Part, shape: tuple[int, ...]) -> Iterator[Problem]:
    """The first thing wrong with a shard: its length, its chunks, its hash, its origin; `shape` is a row's."""
    name = shard_of(store.path, part).relative_to(store.path)
    try:
        receipt = read_json(receipt_of(store.path, part))
        data = shard_of(store.path, part).read_bytes()
    except (OSError, ValueError) as error:
        yield Problem(f"{name}: it or its receipt is missing or damaged ({error})", part)
        return
    if len(data) != receipt.get("bytes"):
        yield Problem(f"{name}: has {len(data)} bytes, not {receipt.get('bytes')}", part)
    elif bad := list(bad_chunks(store, part, shape, data)):
        yield Problem(f"{name}: {'; '.join(bad)}", part)
    elif hashlib.sha256(data).hexdigest() != receipt.get("sha256"):
        yield Problem(f"{name}: sha256 is not the receipt's", part)
    elif receipt.get("identity") != store.identity_of(part):
        yield Problem(f"{name}: was made from something else than {ROOT} says", part)


def bad_chunks(store: Store, part: Part, shape: tuple[int, ...], data: bytes) -> Iterator[str]:
    """The chunks of a shard that cannot be read or hold what no moment is, by what the plan says of their layout."""
    files: dict[str, Buffer] = {part.key: default_buffer_prototype().buffer.from_bytes(data)}
    array = moments_array(files, store, part.split, shape)
    for start in range(part.start, part.stop, CHUNK):
        rows = slice(start, min(start + CHUNK, part.stop))
        try:
            if not np.isfinite(array[part.view, rows]).all():
                yield f"rows {rows.start}-{rows.stop - 1} are lost or not finite"
        except ValueError as error:
            yield f"rows {rows.start}-{rows.stop - 1} are damaged ({error})"


def check_arrays(store: Store, latents: Latents, shape: tuple[int, int, int]) -> Iterator[Problem]:
    """Labels and rows; the shapes, chunks and codecs of all arrays."""
    for split, n in store.counts.items():
        arrays = latents.arrays[split]
        expected = moments_array({}, store, split, shape)
        if arrays["moments"].metadata.to_dict() != expected.metadata.to_dict():
            yield Problem(f"{split}/moments/zarr.json: shape, chunks or codecs are not those of the plan")
        for name, read in (("labels", latents.labels), ("rows", latents.rows)):
            try:
                if read(split).shape != (n,):
                    yield Problem(f"{split}/{name}: shape is {read(split).shape}, not ({n},)")
            except UserError as error:
                yield Problem(f"{split}/{name}: {error}")


def check_content(store: Store, latents: Latents, expected: str) -> list[Problem]:
    """Whether parts, labels and rows, each sound in itself, are those that the store was finished with."""
    labels, rows = ({split: read(split) for split in store.counts} for read in (latents.labels, latents.rows))
    hashes = [read_json(receipt_of(store.path, part))["sha256"] for part in store.parts]
    if content(hashes, labels, rows) == expected:
        return []
    return [Problem(f"{ROOT}: content is not the hash of the parts, labels and rows")]


def repair(path: Path, problems: list[Problem]) -> None:
    """Remove the damaged shards, their receipts, the word of the jobs that they are made, and the root's mark: the next
    run makes exactly that again.
    """
    if problems:
        remove(path / ROOT)
    damaged = {problem.part for problem in problems if problem.part}
    for part in damaged:
        remove(receipt_of(path, part))
        remove(shard_of(path, part))
    for said in (path.parent / "encoded").glob("[0-9]*.json"):
        if said.stem.isdigit() and {part.name for part in damaged} & set(read_json(said).get("parts", ())):
            remove(said)
