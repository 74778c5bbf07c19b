"""Splits by name: `train`, `select`, `test`, cut by class in a keyed order where a dataset has no official test."""

import hashlib

import numpy as np

SPLITS = ("train", "select", "test")


def stratified(labels: np.ndarray, seed: int, select: float, test: float) -> np.ndarray:
    """The split of each row as an index into SPLITS, uint8 (N,).

    Within each class, rows are put into an order that depends on (seed, row) alone; the first round(test * n) are
    `test`, the next round(select * n) are `select`, the rest `train`.
    """
    order = np.array([_rank(seed, row) for row in range(len(labels))])
    split = np.zeros(len(labels), dtype=np.uint8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(order[rows], kind="stable")]
        for_test, for_select = round(test * len(rows)), round(select * len(rows))
        split[rows[:for_test]] = SPLITS.index("test")
        split[rows[for_test : for_test + for_select]] = SPLITS.index("select")
    return split


def _rank(seed: int, row: int) -> int:
    """A 63-bit word that the row's place in the order follows from; no generator, so no library can change it."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/split/{row}".encode(), digest_size=8).digest(), "little") >> 1
