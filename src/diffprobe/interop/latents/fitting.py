"""Which of another system's latents belongs to which image of the dataset: by counts and order, verified by labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprobe.data.images import open_store
from diffprobe.data.splits import SPLITS, TEST
from diffprobe.interop.latents.peers import Encoded, PeerLatents
from diffprobe.runtime.errors import UserError


class PlacedSplit(NamedTuple):
    """A split's images, and where their latents are."""

    encoded: Encoded
    rows: np.ndarray  # int64 (n,), ascending: the images' indices in the image store
    positions: np.ndarray  # int64 (n,): the same images' positions among the encoded
    labels: np.ndarray  # int64 (n,): the dataset's own


class ImageTable(NamedTuple):
    """An image store without its pixels; row i of each array belongs to image i."""

    split: np.ndarray  # uint8 (N,)
    labels: np.ndarray  # int64 (N,), -1 for none
    source: np.ndarray  # int64 (N,): its position in the order of the dataset's own files


def source_positions(image_store: Path) -> np.ndarray:
    """Each image's position in the order of the dataset's own files, int64 (N,)."""
    with open_store(image_store) as file:
        return file["order"][:].astype(np.int64) if "order" in file else np.arange(len(file["labels"]))


def place(image_store: Path, peer: PeerLatents) -> dict[str, PlacedSplit]:
    """Latents for the images of each split that the peer has some of.

    The peer's train covers the images of train and select or, where it has no test of its own, perhaps all; its test
    those of test. Raises UserError where counts do not match, and for the first label that differs.
    """
    source = source_positions(image_store)
    with open_store(image_store) as file:
        images = ImageTable(file["split"][:], file["labels"][:], source)
    # Peers know no `select`: it is the dataset's own, cut from what they call train.
    train = images.split != TEST
    if peer.test is None and not peer.train.fits(int(train.sum())):
        train = np.ones_like(train)
    placed = place_splits(images, peer.train, train)
    return placed | (place_splits(images, peer.test, images.split == TEST) if peer.test else {})


def place_splits(images: ImageTable, encoded: Encoded, covered: np.ndarray) -> dict[str, PlacedSplit]:
    """The splits among the covered images, bool (N,), all of which are encoded in the order of the dataset's files."""
    rows = np.flatnonzero(covered)
    rows = rows[np.argsort(images.source[rows], kind="stable")]  # the image at each position
    if not encoded.fits(len(rows)):
        counts = ", ".join(f"{int((images.split == i).sum()):,} in {name}" for i, name in enumerate(SPLITS))
        raise UserError(
            f"{encoded.name}: holds {encoded.shape[0]:,} latents, but the dataset's images are {len(images.split):,} "
            f"({counts}); set the dataset's split and per_class as they were there"
        )
    refuse_other_labels(images, encoded, rows)
    positions = np.empty(len(images.split), np.int64)
    positions[rows] = np.arange(len(rows))  # the inverse of `rows`
    splits = {name: np.flatnonzero(covered & (images.split == i)) for i, name in enumerate(SPLITS)}
    return {
        name: PlacedSplit(encoded, own, positions[own], images.labels[own]) for name, own in splits.items() if len(own)
    }


def refuse_other_labels(images: ImageTable, encoded: Encoded, rows: np.ndarray) -> None:
    """Raise UserError for the first image, `rows` (n,) by position, whose label differs."""
    if encoded.labels is None:
        return
    ours, theirs = images.labels[rows], encoded.labels[: len(rows)]
    # -1 is no label, on either side.
    differing = np.flatnonzero((ours != theirs) & (ours >= 0) & (theirs >= 0))
    if len(differing):
        at = int(differing[0])
        raise UserError(
            f"{encoded.name}: image {at} has label {theirs[at]}, but {ours[at]} in the dataset (row {rows[at]} of its "
            f"store; {len(differing):,} of {len(rows):,} differ): other images, or in another order; encode them here"
        )
