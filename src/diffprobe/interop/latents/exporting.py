"""A finished store of latents for other code: one HDF5 file, or arrays of samples as DDAE/DiT reads them.

Both are written chunk by chunk, whole or not at all.
"""

from pathlib import Path

import h5py

from diffprobe.interop.latents.samples import PosteriorSamples, npy_bytes, write_npy
from diffprobe.latents.parts import CHUNK
from diffprobe.latents.store import LatentStore
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic, canonical, clear_partials, disk_errors, refuse_existing

HDF5 = (".h5", ".hdf5")


def to_hdf5(latents: LatentStore, out: Path) -> None:
    """One file with a group for each split: `moments` float16 (views, N, 2C, h, w), mean and log-variance, or where
    the attribute `holds` says `latents`, (views, N, C, h, w); `labels` and `rows` int64 (N,).

    In chunks of 256 rows with Fletcher32 checksums, not compressed. Attributes: those of the store, identity and views
    as JSON. Raises UserError for another name, a file that exists, a damaged store and a full disk.
    """
    if out.suffix not in HDF5 or out.is_dir():
        raise UserError(f"{out}: allowed: a name that ends in {' or '.join(HDF5)}, of no folder")
    refuse_existing(out)
    clear_partials(out)
    with (
        disk_errors(out, latents.bytes, "export again"),
        atomic(out) as partial,
        h5py.File(partial, "w", rdcc_nbytes=0) as file,
    ):
        file.attrs.update({name: getattr(latents, name) for name in ("holds", "shape", "scale", "shift")})
        file.attrs.update({"identity": canonical(latents.identity), "content": latents.content})
        for split in latents.splits:
            write_split(file.create_group(split), latents, split)


def write_split(group: h5py.Group, latents: LatentStore, split: str) -> None:
    n = latents.counts[split]
    views = latents.views[split]
    group.attrs["views"] = canonical(views)
    group["labels"], group["rows"] = latents.labels(split), latents.rows(split)
    shape = latents.stored_shape
    chunks = (1, min(CHUNK, n), *shape)
    moments = group.create_dataset("moments", (len(views), n, *shape), "f2", chunks=chunks, fletcher32=True)
    for view in range(len(views)):
        for start in range(0, n, CHUNK):  # chunk by chunk: HDF5 encodes each once, and memory holds no more
            stop = min(start + CHUNK, n)
            moments[view, start:stop] = latents.moments(split, view, start, stop)


def to_npy(latents: LatentStore, images: Path, out: Path, seed: int, scaled: float | None) -> None:
    """A folder with train_code_0.npy, ..., one for each view of train, and test_code_0.npy: float32 (N, C, h, w),
    samples in model scale, or times `scaled` in the autoencoder's own; train_label.npy and test_label.npy, int64 (N,).

    Their train is train and select, in the order of the dataset's own files, which the store of `images` records.
    Select has one view, so its versions differ by the posterior's noise alone, drawn by (seed, image, version). Raises
    UserError for a folder that is not empty, a damaged store and a full disk.
    """
    refuse_existing(out)
    samples = PosteriorSamples(latents, seed, scaled)
    clear_partials(out)
    with disk_errors(out, npy_bytes(latents), "export again"), atomic(out) as partial:
        partial.mkdir()
        write_npy(samples, images, partial)
