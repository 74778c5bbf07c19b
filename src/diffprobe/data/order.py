"""The order of a store's rows: that of the source's listing, unless the listing is sorted by class.

In a sorted store a chunk of 256 rows holds one class, so training that streams a few chunks at a time sees few classes.
"""

import numpy as np

from diffprobe.data.listing import Files, Listing
from diffprobe.data.splits import TRAIN

PURPOSE, SEED = "order of a class-sorted source", 0  # constants: another order would be another store


def shuffled_rows(listing: Listing) -> np.ndarray | None:
    """The index in the listing of each row's image, int64 (N,); None where rows keep the order of the listing."""
    if not is_sorted(listing):
        return None
    from diffprobe.runtime.keyed import Key, permutation  # imports torch, which few sources need

    return permutation(Key(SEED, PURPOSE), len(listing.labels)).numpy()


def is_sorted(listing: Listing) -> bool:
    """Whether the training files (all files, without official splits) come class by class, with more than one class.

    Each archive counts by itself, since a dataset may consist of several sorted zips. Arrays are never taken as sorted:
    datasets published as arrays are already mixed.
    """
    if not isinstance(listing.images, Files):
        return False
    official = listing.official
    train = np.arange(len(listing.labels)) if official is None else np.flatnonzero(official == TRAIN)
    labels = listing.labels[train]
    archives = np.array([listing.images.entries[row][0] for row in train.tolist()])
    # A sorted archive never falls back to a smaller label.
    descents = (np.diff(labels) < 0) & (np.diff(archives) == 0)
    return len(np.unique(labels)) > 1 and not descents.any()
