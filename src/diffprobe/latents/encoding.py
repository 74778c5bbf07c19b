"""Encoding: images through their views and an autoencoder into the parts of a latent store.

Reading, computing and writing overlap: a thread reads the images of coming batches and makes their views, another
writes the part before.
"""

import os
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.background import prefetch
from diffprobe.data.hdf5 import ImageStore
from diffprobe.data.images import batches, open_store
from diffprobe.data.splits import SPLITS
from diffprobe.latents.parts import CHUNK, Part, Store, claims, made, write_part
from diffprobe.networks.autoencoder import LOGVAR
from diffprobe.runtime.errors import UserError

Moments = Callable[[Tensor], Tensor]  # uint8 (B, H, W, C) to (B, 2C, h, w): mean, then log-variance


def split_arrays(file: ImageStore, splits: list[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labels and rows, int64 (N,), of the named splits of an open image store: what `finish` asks for."""
    split, labels = file["split"][:], file["labels"][:]
    rows = {name: np.flatnonzero(split == SPLITS.index(name)) for name in splits}
    return {name: labels[found] for name, found in rows.items()}, rows


def share_of(store: Store, job: int, jobs: int) -> list[Part]:
    """The parts that are the work of one of so many jobs."""
    parts = store.parts
    return parts[len(parts) * job // jobs : len(parts) * (job + 1) // jobs]


def encode(
    store: Store,
    images: Path,
    moments: Moments,
    batch: int,
    report: Callable[[int], None] = lambda rows: None,
    among: Collection[Part] | None = None,
) -> None:
    """Make those of the parts (of all, if None) that are missing; return when none is, whoever made it.

    Batches are cut at the borders of chunks, so that a part's bytes depend neither on the number of writers nor on
    which parts were made before. `report` is given the rows done so far over all views, earlier runs' included.
    Raises UserError for a batch that does not divide 256, and what `write_part` raises.
    """
    if batch < 1 or CHUNK % batch:
        raise UserError(f"batch {batch} does not divide {CHUNK}, the rows of a chunk; use 1, 2, 4, ... {CHUNK}")
    among = store.parts if among is None else among
    done = sum(part.stop - part.start for part in among if made(store, part))
    writing: Future[None] | None = None
    with open_store(images) as file, ThreadPoolExecutor(1) as writer, closing(claims(store, among)) as todo:
        _, rows = split_arrays(file, list(store.counts))
        for part, lock in todo:
            try:
                if writing and writing.done():
                    writing.result()  # a part that could not be written would otherwise be made again
                found = encoded(store, part, file, rows[part.split], moments, batch, report, done)
                if writing:
                    writing.result()  # one part at most waits to be written
            except BaseException:
                os.close(lock)
                raise
            writing = writer.submit(write_and_release, store, part, found, lock)
            done += len(found)
    if writing:
        writing.result()


def write_and_release(store: Store, part: Part, moments: np.ndarray, lock: int) -> None:
    try:
        write_part(store, part, moments)
    finally:
        os.close(lock)


@torch.inference_mode()
def encoded(
    store: Store,
    part: Part,
    images: ImageStore,
    rows: np.ndarray,
    moments: Moments,
    batch: int,
    report: Callable[[int], None],
    before: int,
) -> np.ndarray:
    """A part's moments, float16 (n, 2C, h, w); rows (N,) are those of its split in the open image store.

    A GPU's results are fetched without waiting for it but at the end.
    """
    view, wanted = store.views[part.split][part.view], rows[part.start : part.stop]
    found, done = torch.empty(0), 0
    read = zip(batches(images, wanted, batch), torch.from_numpy(wanted).split(batch), strict=True)
    seen = (views.apply(view, torch.from_numpy(raw), keys, store.seed) for raw, keys in read)
    with closing(prefetch(seen)) as coming:
        for pixels in coming:
            piece = stored(moments(pixels), store.holds)
            if not done:
                found = torch.empty(len(wanted), *piece.shape[1:], dtype=piece.dtype, pin_memory=piece.is_cuda)
            found[done : done + len(piece)].copy_(piece, non_blocking=True)
            done += len(piece)
            report(before + done)
    if piece.is_cuda:
        torch.cuda.synchronize(piece.device)
    return found.numpy()


def stored(moments: Tensor, holds: str) -> Tensor:
    """Moments (B, 2C, h, w) as they are kept: log-variances bounded, float16. What overflows becomes infinite."""
    if holds == "latents":
        return moments.half()
    mean, logvar = moments.float().chunk(2, dim=1)
    return torch.cat([mean, logvar.clamp(*LOGVAR)], dim=1).half()
