"""Encoding: images through their views and an autoencoder into the parts of a latent store.

Reading, computing and writing overlap: one thread reads the images of the next batches and makes their views, another
writes the previous part.
"""

from collections.abc import Callable, Sequence
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
from diffprobe.latents.parts import CHUNK, StorePart, StorePlan, valid_receipt, write_part
from diffprobe.networks.autoencoder import LOGVAR
from diffprobe.runtime.errors import UserError

Encoder = Callable[[Tensor], Tensor]  # uint8 (B, H, W, C) to moments (B, 2C, h, w): mean, then log-variance
Report = Callable[[int], None]


def split_arrays(file: ImageStore, splits: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labels and rows, int64 (N,) each, of the named splits of an open image store, as `finish` takes them."""
    split, labels = file["split"][:], file["labels"][:]
    rows = {name: np.flatnonzero(split == SPLITS.index(name)) for name in splits}
    return {name: labels[split_rows] for name, split_rows in rows.items()}, rows


def share_of(plan: StorePlan, job: int, jobs: int) -> list[StorePart]:
    """The parts that one of so many jobs makes."""
    parts = plan.parts  # in runs, so that a job reads neighbouring images
    return parts[len(parts) * job // jobs : len(parts) * (job + 1) // jobs]


def encode(
    plan: StorePlan,
    images: Path,
    encoder: Encoder,
    batch: int,
    report: Report = lambda rows: None,
    parts: Sequence[StorePart] | None = None,
) -> None:
    """Make those of these parts (of all, if None) that are missing. No other process may write the same ones.

    Batches are cut at the borders of chunks, so that a part's bytes depend neither on how the work is divided nor on
    which parts were made before. `report` is given the rows done so far over all views, earlier runs' included.
    Raises UserError for a batch that does not divide 256, and what `write_part` raises.
    """
    # An autoencoder's rounding may depend on the batch; at fixed borders the same rows always share one.
    if batch < 1 or CHUNK % batch:
        raise UserError(f"batch {batch} does not divide {CHUNK}, the rows of a chunk; use 1, 2, 4, ... {CHUNK}")
    parts = plan.parts if parts is None else parts
    missing = [part for part in parts if valid_receipt(plan, part) is None]
    done = sum(part.rows for part in parts) - sum(part.rows for part in missing)
    writing: Future[None] | None = None
    with open_store(images) as file, ThreadPoolExecutor(1) as writer:
        _, rows = split_arrays(file, list(plan.counts))
        for part in missing:
            moments = encode_part(plan, part, file, rows[part.split], encoder, batch, report, done)
            if writing:
                writing.result()  # at most one part waits in memory to be written
            writing = writer.submit(write_part, plan, part, moments)
            done += part.rows
        if writing:
            writing.result()


@torch.inference_mode()
def encode_part(
    plan: StorePlan,
    part: StorePart,
    images: ImageStore,
    rows: np.ndarray,
    encoder: Encoder,
    batch: int,
    report: Report,
    before: int,
) -> np.ndarray:
    """A part's moments, float16 (n, 2C, h, w); rows (N,) are those of its split in the open image store, `before` the
    rows done before this part.
    """
    view, part_rows = plan.views[part.split][part.view], rows[part.start : part.stop]
    # Views are made by the thread that reads, so that the device only waits for whole batches.
    read = zip(batches(images, part_rows, batch), torch.from_numpy(part_rows).split(batch), strict=True)
    viewed = (views.apply(view, torch.from_numpy(raw), keys, plan.seed) for raw, keys in read)
    moments, done = torch.empty(0), 0
    with closing(prefetch(viewed)) as pixel_batches:
        for pixels in pixel_batches:
            stored = as_stored(encoder(pixels), plan.holds)  # (B, 2C, h, w)
            if not done:
                moments = torch.empty(part.rows, *stored.shape[1:], dtype=stored.dtype, pin_memory=stored.is_cuda)
            # Into pinned memory without waiting for the GPU, which is synchronised once, at the end.
            moments[done : done + len(stored)].copy_(stored, non_blocking=True)
            done += len(stored)
            report(before + done)
    if stored.is_cuda:
        torch.cuda.synchronize(stored.device)
    return moments.numpy()


def as_stored(moments: Tensor, holds: str) -> Tensor:
    """Moments (B, 2C, h, w) as a store keeps them: log-variances clamped, float16. Overflow becomes infinite."""
    if holds == "latents":
        return moments.half()
    mean, logvar = moments.float().chunk(2, dim=1)  # (B, C, h, w) each
    return torch.cat([mean, logvar.clamp(*LOGVAR)], dim=1).half()
