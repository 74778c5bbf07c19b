"""What is wrong with a finished latent store, and how to have just that made again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from zarr.core.buffer import Buffer, default_buffer_prototype

from diffprobe.latents.completion import content
from diffprobe.latents.parts import ADDED, CHUNK, Part, Store, moments_array, receipt_of, shard_of
from diffprobe.latents.store import Latents, attributes, open_store, stored_shape
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import read_json, recorded
from diffprobe.runtime.manifests import ROOT
from diffprobe.runtime.removal import remove_file

MOST_PARTS = 10**6  # ten views of ImageNet are 50,000 shards of one chunk; a mark that says more is not believed
Split = Literal["train", "select", "test"]


class Made(BaseModel):
    """What a mark's `identity` must hold for its parts to follow from it."""

    model_config = ConfigDict(strict=True)
    seed: int
    views: dict[Split, list[dict[str, Any]]]


class Mark(BaseModel):
    """The attributes of a finished store's root. Paths are made from them, so nothing else is verified or repaired."""

    model_config = ConfigDict(strict=True)
    format: Literal["diffprobe latents 2"]  # store.FORMAT
    identity: Made
    holds: Literal["moments", "latents"]
    counts: Annotated[dict[Split, PositiveInt], Field(min_length=1)]
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    shard_chunks: PositiveInt
    scale: list[float]
    shift: list[float]
    content: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if self.counts.keys() != self.identity.views.keys():
            raise ValueError("counts and views are of different splits")
        rows = self.shard_chunks * CHUNK
        if sum(-(-n // rows) * len(self.identity.views[split]) for split, n in self.counts.items()) > MOST_PARTS:
            raise ValueError("it has too many parts")
        return self


class Problem(NamedTuple):
    """`text` names the file and what is wrong with it; `part` is what to make again, where that is a shard."""

    text: str
    part: Part | None = None


def verify(path: Path) -> list[Problem]:
    """Everything wrong with a finished store, in one pass over all its bytes; empty where all is well."""
    try:
        found = attributes(path)
        Mark.model_validate(found)
    except UserError as error:
        return [Problem(str(error))]
    except ValidationError as error:
        return [Problem(f"{path / ROOT}: is not the mark of a latent store ({first_line(error)}); look at it yourself")]
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


def repair(path: Path, problems: list[Problem]) -> bool:
    """Remove the damaged shards, their receipts, those of the jobs that made them, and the root's mark: the next run
    makes exactly that again. Returns False, with nothing removed, where the mark is not one of ours.
    """
    if not problems or not (path / ROOT).exists() or not is_ours(path / ROOT):
        return False
    remove_file(path, ROOT)
    damaged = {problem.part for problem in problems if problem.part}
    for part in damaged:
        remove_file(path.parent, receipt_of(path, part).relative_to(path.parent))
        remove_file(path, shard_of(path, part).relative_to(path))
    for job in (path.parent / "encoded").glob("[0-9]*.json"):
        if job.stem.isdigit() and {part.name for part in damaged} & parts_of(job):
            remove_file(path.parent, job.relative_to(path.parent))
    return True


def is_ours(mark: Path) -> bool:
    """Whether a root is the mark of a latent store, its checksum aside."""
    try:
        Mark.model_validate(recorded(mark, "attributes"))
    except ValidationError:
        return False
    return True


def parts_of(receipt: Path) -> set[str]:
    """The names of the parts that an encoding job says it made; none where its receipt cannot be read."""
    parts = recorded(receipt, "parts")
    return set(map(str, parts)) if isinstance(parts, list) else set()


def first_line(error: ValidationError) -> str:
    """The first thing wrong, as key and reason."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
