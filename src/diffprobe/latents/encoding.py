"""Encoding: images through their views and an autoencoder into the parts of a latent store."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffprobe.data import views
from diffprobe.data.images import batches, open_store
from diffprobe.data.splits import SPLITS
from diffprobe.latents.parts import CHUNK, Part, Store, claims, missing, write_part
from diffprobe.networks.autoencoder import LOGVAR
from diffprobe.runtime.errors import UserError

Moments = Callable[[Tensor], Tensor]  # uint8 (B, H, W, C) to (B, 2C, h, w): mean, then log-variance


def split_arrays(images: Path, splits: list[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labels and rows, int64 (N,), of the named splits of an image store: what `finish` asks for."""
    with open_store(images) as file:
        split, labels = file["split"][:], file["labels"][:]
    rows = {name: np.flatnonzero(split == SPLITS.index(name)) for name in splits}
    return {name: labels[found] for name, found in rows.items()}, rows


def encode(
    store: Store, images: Path, moments: Moments, batch: int, report: Callable[[int], None] = lambda rows: None
) -> None:
    """Make every missing part of a store; return when none is missing, whoever made it.

    Batches are cut at the borders of chunks, so that a part's bytes depend neither on the number of writers nor on
    which parts were made before. `report` is given the rows done so far over all views, earlier runs' included.
    Raises UserError for a batch that does not divide 256, and what `write_part` raises.
    """
    if batch < 1 or CHUNK % batch:
        raise UserError(f"batch {batch} does not divide {CHUNK}, the rows of a chunk; use 1, 2, 4, ... {CHUNK}")
    _, rows = split_arrays(images, list(store.counts))
    done = sum(part.stop - part.start for part in set(store.parts) - set(missing(store)))
    with closing(claims(store)) as todo:
        for part in todo:
            pieces = []
            for piece in encoded(store, part, images, rows[part.split], moments, batch):
                pieces.append(piece)
                done += len(piece)
                report(done)
            write_part(store, part, np.concatenate(pieces))


@torch.inference_mode()
def encoded(
    store: Store, part: Part, images: Path, rows: np.ndarray, moments: Moments, batch: int
) -> Iterator[np.ndarray]:
    """A part's moments batch by batch, float16 (B, 2C, h, w); rows (N,) are those of its split in the image store."""
    view, wanted = store.views[part.split][part.view], rows[part.start : part.stop]
    for pixels, keys in zip(batches(images, wanted, batch), torch.from_numpy(wanted).split(batch), strict=True):
        yield stored(moments(views.apply(view, torch.from_numpy(pixels), keys, store.seed)))


def stored(moments: Tensor) -> np.ndarray:
    """Moments (B, 2C, h, w) as they are kept: log-variances bounded, float16. What overflows becomes infinite."""
    mean, logvar = moments.float().chunk(2, dim=1)
    return torch.cat([mean, logvar.clamp(*LOGVAR)], dim=1).half().cpu().numpy()
