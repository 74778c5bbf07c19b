"""Zarr arrays with a checksum for every chunk, as the stores of latents, samples and features hold them.

zarr itself reads a missing chunk as the fill value. Here that is damage, as a wrong checksum is, and named by its file.
"""

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import StoreLike

from diffprobe.runtime.errors import UserError, one_line, refused_access

MOST_CHUNKS = 10**6  # of an array, 256 million samples for instance; metadata that says more is not believed


class DamagedError(ValueError):
    """What is wrong with an array on disk, in words for a user."""


def create_array(store: StoreLike, **options: Any) -> zarr.Array:
    """A new array in a store of zarr's, with its `options`; not compressed, since pixels and latents hardly shrink."""
    return zarr.create_array(store, serializer=BytesCodec(), compressors=[Crc32cCodec()], **options)


def open_array(path: Path, remedy: str) -> zarr.Array:
    """An array on disk, for reading. Raises UserError, which ends in the remedy, where there is none."""
    try:
        array = zarr.open_array(str(path), mode="r")
        # Before anybody loops over the chunks or allocates what the metadata says.
        if math.prod(map(len, chunk_ranges(array, ()))) > MOST_CHUNKS:
            raise DamagedError(f"its shape {array.shape} in chunks of {array.chunks} cannot be right")
    except Exception as error:  # damaged metadata may raise anything, most of it in words of Python's own
        reason = f"({one_line(error)})" if isinstance(error, OSError | DamagedError) else "(its zarr.json is damaged)"
        raise refused_access(path, error) or UserError(f"{path}: cannot be opened {reason}; {remedy}") from None
    return array


def read_array(array: zarr.Array, remedy: str, *selection: int | slice) -> np.ndarray:
    """The selection from the first axes of an array on disk, whole along the others.

    Raises UserError, which names the chunk and ends in the remedy, where one is damaged or missing.
    """
    try:
        return read_verified(array, selection)
    except ValueError as error:
        raise UserError(f"{error}; {remedy}") from None


def damaged_chunks(array: zarr.Array) -> Iterator[str]:
    """Read every chunk and compare it with its checksum: a line for each that is damaged or missing."""
    for key in product(*chunk_ranges(array, ())):
        sizes = zip(key, array.chunks, array.shape, strict=True)
        try:
            read_verified(array, tuple(slice(i * chunk, min((i + 1) * chunk, size)) for i, chunk, size in sizes))
        except ValueError as error:
            yield str(error)


def read_verified(array: zarr.Array, selection: tuple[int | slice, ...]) -> np.ndarray:
    """As `read_array`, with a ValueError that names the chunk."""
    folder = Path(str(array.store_path).removeprefix("file://"))
    # Named as zarr will look for them: where its metadata are damaged, other names would all be missing to it.
    chunks = [folder / array.metadata.encode_chunk_key(key) for key in product(*chunk_ranges(array, selection))]
    if missing := [chunk for chunk in chunks if not chunk.exists()]:
        raise ValueError(f"{missing[0]}: damaged (it is missing)")
    try:
        return np.asarray(array[selection])
    except Exception as error:  # damaged bytes may raise anything
        if refused := refused_access(folder, error):
            raise refused from None
        raise ValueError(f"{chunks[0] if len(chunks) == 1 else folder}: damaged ({error})") from None


def chunk_ranges(array: zarr.Array, selection: tuple[int | slice, ...]) -> Iterator[range]:
    """The numbers of the chunks that a selection touches, along each axis."""
    for axis, (size, chunk) in enumerate(zip(array.shape, array.chunks, strict=True)):
        part = selection[axis] if axis < len(selection) else slice(0, size)
        first, stop = (part.start, part.stop) if isinstance(part, slice) else (part, part + 1)
        yield range(first // chunk, -(-stop // chunk))
