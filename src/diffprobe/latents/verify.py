"""What is wrong with a finished latent store, and the removal of just the parts that must be made again."""

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from zarr.core.buffer import Buffer, default_buffer_prototype

from diffprobe.latents.completion import content
from diffprobe.latents.manifest import LatentManifest
from diffprobe.latents.parts import ADDED, CHUNK, StorePart, StorePlan, moments_array, receipt_path, shard_path
from diffprobe.latents.store import LatentStore, open_store, read_attributes, stored_shape
from diffprobe.runtime.errors import AccessError, UserError, refused_access
from diffprobe.runtime.files import read_json, recorded
from diffprobe.runtime.manifests import ROOT
from diffprobe.runtime.removal import remove_file


class Problem(NamedTuple):
    """`text` names the file and what is wrong with it; `part` is what to make again, where that is a shard."""

    text: str
    part: StorePart | None = None


def verify(path: Path) -> list[Problem]:
    """Everything wrong with a finished store, in one pass over all its bytes; empty where all is well."""
    try:
        manifest = read_attributes(path)
    except AccessError:
        raise
    except UserError as error:
        return [Problem(str(error))]
    plan, shape = finished_plan(path, manifest), stored_shape(manifest.shape, manifest.holds)
    problems = [problem for part in plan.parts for problem in check_part(plan, part, shape)]
    try:
        latents = open_store(path)
    except AccessError:
        raise
    except UserError as error:
        return [*problems, Problem(str(error))]
    problems += check_arrays(plan, latents, shape)
    # A hash of everything says nothing new where a file is already known to be damaged.
    return problems or check_content(plan, latents)


def finished_plan(path: Path, manifest: LatentManifest) -> StorePlan:
    """The plan that a finished store's manifest describes."""
    identity = {key: value for key, value in manifest.identity.items() if key not in ADDED}
    counts, views, chunks = manifest.counts, manifest.views, manifest.shard_chunks
    return StorePlan(path, identity, manifest.seed, counts, views, chunks, manifest.holds)


def check_part(plan: StorePlan, part: StorePart, shape: tuple[int, ...]) -> Iterator[Problem]:
    """The first thing wrong with a shard: its length, its chunks, its hash, its identity; `shape` is that of a row."""
    name = shard_path(plan.path, part).relative_to(plan.path)
    receipt = recorded(receipt_path(plan.path, part))
    try:
        data = shard_path(plan.path, part).read_bytes()
    except OSError as error:
        if refused := refused_access(shard_path(plan.path, part), error):
            raise refused from None
        yield Problem(f"{name}: cannot be read ({os.strerror(error.errno or 0)})", part)
        return
    if not isinstance(receipt, dict):
        yield Problem(f"{name}: its receipt is missing or damaged", part)
        return
    # From the cheap to the telling: only a shard that is readable and sound by itself can be another's.
    if len(data) != receipt.get("bytes"):
        yield Problem(f"{name}: has {len(data)} bytes, not {receipt.get('bytes')}", part)
    elif bad := list(bad_chunks(plan, part, shape, data)):
        yield Problem(f"{name}: {'; '.join(bad)}", part)
    elif hashlib.sha256(data).hexdigest() != receipt.get("sha256"):
        yield Problem(f"{name}: sha256 is not the receipt's", part)
    elif receipt.get("identity") != plan.identity_of(part):
        yield Problem(f"{name}: was not made from what {ROOT} says", part)


def bad_chunks(plan: StorePlan, part: StorePart, shape: tuple[int, ...], data: bytes) -> Iterator[str]:
    """The chunks of a shard that cannot be read, or hold NaN or infinite values, in the layout of the plan."""
    files: dict[str, Buffer] = {part.key: default_buffer_prototype().buffer.from_bytes(data)}
    array = moments_array(files, plan, part.split, shape)
    for start in range(part.start, part.stop, CHUNK):
        rows = slice(start, min(start + CHUNK, part.stop))
        try:
            if not np.isfinite(array[part.view, rows]).all():
                yield f"rows {rows.start}-{rows.stop - 1} are lost or not finite"
        except ValueError as error:
            yield f"rows {rows.start}-{rows.stop - 1} are damaged ({error})"


def check_arrays(plan: StorePlan, latents: LatentStore, shape: tuple[int, int, int]) -> Iterator[Problem]:
    """Labels and rows; the shapes, chunks and codecs of all arrays."""
    for split, n in plan.counts.items():
        arrays = latents.arrays[split]
        expected = moments_array({}, plan, split, shape)  # its metadata as the plan would write it
        if arrays["moments"].metadata.to_dict() != expected.metadata.to_dict():
            yield Problem(f"{split}/moments/zarr.json: shape, chunks or codecs are not those of the plan")
        for name, read in (("labels", latents.labels), ("rows", latents.rows)):
            try:
                if read(split).shape != (n,):
                    yield Problem(f"{split}/{name}: shape is {read(split).shape}, not ({n},)")
            except UserError as error:
                yield Problem(f"{split}/{name}: {error}")


def check_content(plan: StorePlan, latents: LatentStore) -> list[Problem]:
    """Whether parts, labels and rows, each sound in itself, are those that the store was finished with."""
    labels, rows = ({split: read(split) for split in plan.counts} for read in (latents.labels, latents.rows))
    hashes = [read_json(receipt_path(plan.path, part))["sha256"] for part in plan.parts]
    if content(hashes, labels, rows) == latents.content:
        return []
    return [Problem(f"{ROOT}: content is not the hash of the parts, labels and rows")]


def repair(path: Path, problems: Sequence[Problem]) -> bool:
    """Remove the manifest and the damaged parts: the next run makes exactly those again.

    Returns False, with nothing removed, where the manifest is not one of ours.
    """
    if not problems or not (path / ROOT).exists() or not is_ours(path / ROOT):
        return False
    remove_file(path, ROOT)  # first, so that a repair that is killed leaves no complete-looking store
    remove_parts(path, {problem.part for problem in problems if problem.part})
    return True


def remove_parts(path: Path, parts: Collection[StorePart]) -> None:
    """Remove shards, their receipts, and the receipts of the jobs that made them, so that the workflow runs those jobs
    again.
    """
    for part in parts:
        remove_file(path.parent, receipt_path(path, part).relative_to(path.parent))
        remove_file(path, shard_path(path, part).relative_to(path))
    names = {part.name for part in parts}
    for job in (path.parent / "encoded").glob("[0-9]*.json"):
        if job.stem.isdigit() and names & parts_of(job):
            remove_file(path.parent, job.relative_to(path.parent))


def is_ours(manifest: Path) -> bool:
    """Whether a root is the manifest of a latent store, its checksum aside."""
    try:
        LatentManifest.parse(recorded(manifest, "attributes"))
    except ValueError:
        return False
    return True


def parts_of(receipt: Path) -> set[str]:
    """The names of the parts that an encoding job says it made; none where its receipt cannot be read."""
    parts = recorded(receipt, "parts")
    return set(map(str, parts)) if isinstance(parts, list) else set()
