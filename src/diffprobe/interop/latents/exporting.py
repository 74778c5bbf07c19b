"""A finished store of latents for other code: one HDF5 file, or arrays of samples as DDAE/DiT reads them.

Both are written chunk by chunk, whole or not at all.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from diffprobe.interop.latents.samples import Samples, npy_bytes, write_npy
from diffprobe.latents.parts import CHUNK
from diffprobe.latents.store import Latents
from diffprobe.runtime.errors import UserError, one_line
from diffprobe.runtime.files import atomic, canonical, clear_partials, refuse_existing

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HDF5 = (".h5", ".hdf5")


def to_hdf5(latents: Latents, out: Path) -> None:
    """One file with a group for each split: `moments` float16 (views, N, 2C, h, w), mean and log-variance, or where
    the attribute `holds` says `latents`, (views, N, C, h, w); `labels` and `rows` int64 (N,).

    In chunks of 256 rows with Fletcher32 checksums, not compressed. Attributes: what the store says of itself,
    identity and views as JSON. Raises UserError for another name, a file that exists, a damaged store and a full disk.
    """
    if out.suffix not in HDF5 or out.is_dir():
        raise UserError(f"{out}: allowed: a name that ends in {' or '.join(HDF5)}, of no folder")
    refuse_existing(out)
    with whole(out, latents.bytes) as partial, h5py.File(partial, "w", rdcc_nbytes=0) as file:
        file.attrs.update(attributes(latents))
        for split in latents.splits:
            write_split(file.create_group(split), latents, split)


def attributes(latents: Latents) -> dict[str, object]:
    return {
        "holds": latents.holds,
        "shape": latents.shape,
        "scale": latents.scale,
        "shift": latents.shift,
        "identity": canonical(latents.identity),
        "content": latents.content,
    }


def write_split(group: h5py.Group, latents: Latents, split: str) -> None:
    n = latents.counts[split]
    views = latents.views[split]
    group.attrs["views"] = canonical(views)
    group["labels"], group["rows"] = latents.labels(split), latents.rows(split)
    shape = latents.stored_shape
    chunks = (1, min(CHUNK, n), *shape)
    moments = group.create_dataset("moments", (len(views), n, *shape), "f2", chunks=chunks, fletcher32=True)
    for view in range(len(views)):
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            moments[view, start:stop] = latents.moments(split, view, start, stop)


def to_npy(latents: Latents, images: Path, out: Path, seed: int, scaled: float | None) -> None:
    """A folder with train_code_0.npy, ..., one for each view of train, and test_code_0.npy: float32 (N, C, h, w),
    samples in model scale, or times `scaled` in the autoencoder's own; train_label.npy and test_label.npy, int64 (N,).

    Their train is train and select, in the order of the dataset's own files, which the store of `images` tells; select
    has one view, so its images differ from version to version by the posterior's noise alone, drawn by (seed, image,
    version). Raises UserError for a folder that is not empty, a damaged store and a full disk.
    """
    refuse_existing(out)
    samples = Samples(latents, seed, scaled)
    with whole(out, npy_bytes(latents)) as partial:
        partial.mkdir()
        write_npy(samples, images, partial)


@contextmanager
def whole(out: Path, needs: int) -> Iterator[Path]:
    """A temporary name that becomes `out` at the end; one line for a disk that does not take it, `needs` in bytes."""
    try:
        clear_partials(out)
        with atomic(out) as partial:
            yield partial
    except OSError as error:
        remedy = "free some space" if error.errno in FULL else "put that right"
        said = os.strerror(error.errno) if error.errno else one_line(error)  # HDF5's is a paragraph
        raise UserError(
            f"{out}: cannot be written ({said}; it takes {needs / 1e9:.3g} GB); {remedy} and export again"
        ) from None
