"""The order of a store's rows: that of the source's listing, unless it comes sorted by class.

Then a chunk of 256 rows would hold one class, and training that streams a few chunks at a time would see few classes.
"""

import numpy as np

from diffprobe.data.listing import Files, Listing
from diffprobe.data.splits import TRAIN

PURPOSE, SEED = "order of a class-sorted source", 0  # fixed: the order is no choice of anybody's


def shuffled(listing: Listing) -> np.ndarray | None:
    """The image of the listing at each row, int64 (N,), where the listing is sorted by class; None where it stays."""
    if not is_sorted(listing):
        return None
    from diffprobe.runtime.keyed import Key, permutation  # imports torch, which most sources do without

    return permutation(Key(SEED, PURPOSE), len(listing.labels)).numpy()


def is_sorted(listing: Listing) -> bool:
    """Whether the files of train (of all, without official splits), of more than one class, come class by class.

    In each archive by itself, since several zips may be sorted each. Arrays, which are published in an order that is
    known, are taken not to.
    """
    if not isinstance(listing.images, Files):
        return False
    official = listing.official
    train = np.arange(len(listing.labels)) if official is None else np.flatnonzero(official == TRAIN)
    labels = listing.labels[train]
    archives = np.array([listing.images.entries[row][0] for row in train.tolist()])
    falls = (np.diff(labels) < 0) & (np.diff(archives) == 0)
    return len(np.unique(labels)) > 1 and not falls.any()
