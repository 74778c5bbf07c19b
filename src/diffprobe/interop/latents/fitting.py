"""Which of a peer's latents belongs to which image of the dataset: by counts and order, proved by labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprobe.data.images import open_store
from diffprobe.data.splits import SPLITS, TEST
from diffprobe.interop.latents.peers import Encoded, Peer
from diffprobe.runtime.errors import UserError


class Placed(NamedTuple):
    """A split's images, and where their latents are."""

    encoded: Encoded
    rows: np.ndarray  # int64 (n,), rising: the images' indices in the image store
    positions: np.ndarray  # int64 (n,): the same images' places among the encoded
    labels: np.ndarray  # int64 (n,): the dataset's own


class Images(NamedTuple):
    """An image store without its pixels; row i of each belongs to image i."""

    split: np.ndarray  # uint8 (N,)
    labels: np.ndarray  # int64 (N,), -1 for none
    source: np.ndarray  # int64 (N,): its place in the order of the dataset's own files


def source_positions(image_store: Path) -> np.ndarray:
    """Where each image was in the order of the dataset's own files, int64 (N,)."""
    with open_store(image_store) as file:
        return file["order"][:].astype(np.int64) if "order" in file else np.arange(len(file["labels"]))


def open_images(image_store: Path) -> Images:
    with open_store(image_store) as file:
        split, labels = file["split"][:], file["labels"][:]
    return Images(split, labels, source_positions(image_store))


def place(image_store: Path, peer: Peer) -> dict[str, Placed]:
    """Latents for the images of each split that the peer has some of.

    Its train is latents of the images of train and select, or without a test of its own perhaps of all; its test those
    of test. Raises UserError for other counts, and for the first label that differs.
    """
    images = open_images(image_store)
    own = images.split != TEST
    if peer.test is None and not peer.train.fits(int(own.sum())):
        own = np.ones_like(own)
    found = covered(images, peer.train, own)
    return found | (covered(images, peer.test, images.split == TEST) if peer.test else {})


def covered(images: Images, encoded: Encoded, among: np.ndarray) -> dict[str, Placed]:
    """The splits among so marked images (N,), all of which are encoded, in the order of the dataset's own files."""
    rows = np.flatnonzero(among)
    rows = rows[np.argsort(images.source[rows], kind="stable")]  # the image at each position
    if not encoded.fits(len(rows)):
        counts = {name: int((images.split == i).sum()) for i, name in enumerate(SPLITS)}
        told = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
        raise UserError(
            f"{encoded.name}: holds {encoded.shape[0]:,} latents, but the dataset's images are {len(images.split):,} "
            f"({told}); set the dataset's split and per_class as they were there"
        )
    refuse_other_labels(images, encoded, rows)
    positions = np.empty(len(images.split), np.int64)
    positions[rows] = np.arange(len(rows))
    splits = {name: np.flatnonzero(among & (images.split == i)) for i, name in enumerate(SPLITS)}
    return {name: Placed(encoded, own, positions[own], images.labels[own]) for name, own in splits.items() if len(own)}


def refuse_other_labels(images: Images, encoded: Encoded, rows: np.ndarray) -> None:
    """Raise UserError for the first image, `rows` (n,) by position, whose label is another one there."""
    if encoded.labels is None:
        return
    ours, theirs = images.labels[rows], encoded.labels[: len(rows)]
    differing = np.flatnonzero((ours != theirs) & (ours >= 0) & (theirs >= 0))
    if len(differing):
        at = int(differing[0])
        raise UserError(
            f"{encoded.name}: image {at} has label {theirs[at]}, but {ours[at]} in the dataset (row {rows[at]} of its "
            f"store; {len(differing):,} of {len(rows):,} differ): other images, or in another order; encode them here"
        )
