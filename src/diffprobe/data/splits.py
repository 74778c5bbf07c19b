"""Splits by name: `train`, `select`, `test`, by a rule: stratified, the source's own, or the last rows."""

import hashlib
from collections.abc import Sequence

import numpy as np

from diffprobe.data.listing import Listing
from diffprobe.runtime.errors import UserError

SPLITS = ("train", "select", "test")
TRAIN, SELECT, TEST = range(3)


def assign(rule: dict, labels: np.ndarray, official: np.ndarray | None, classes: Sequence[str]) -> np.ndarray:
    """The split of each row as an index into SPLITS, uint8 (N,).

    `rule` is one of {"kind": "stratified", "seed", "select", "test"} with shares, {"kind": "official", "select"} with
    a share of train, {"kind": "last", "select", "test"} with counts; `labels` int64 (N,), -1 for none, which counts
    as one class; `official` uint8 (N,) or None.

    Raises:
        UserError: the source has no splits of its own, a split or a class in train would be without images.
    """
    if rule["kind"] == "official":
        split = own(official, labels, rule["select"])
    elif rule["kind"] == "last":
        split = last(len(labels), rule["select"], rule["test"])
    else:
        refuse_small(labels, classes)
        split = stratified(labels, rule["seed"], rule["select"], rule["test"])
    refuse_empty(split, labels, classes, rule["kind"])
    return split


def stratified(labels: np.ndarray, seed: int, select: float, test: float) -> np.ndarray:
    """The split of each row as an index into SPLITS, uint8 (N,).

    Within each class, rows are put into an order that depends on (seed, row) alone; the first round(test * n) are
    `test`, the next round(select * n) are `select`, the rest `train`. No split goes without a class of three images
    or more, whatever rounding says.
    """
    order = np.array([_rank(seed, row) for row in range(len(labels))])
    split = np.zeros(len(labels), dtype=np.uint8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(order[rows], kind="stable")]
        for_test = _within(round(test * len(rows)), len(rows) - 2)
        for_select = _within(round(select * len(rows)), len(rows) - 1 - for_test)
        split[rows[:for_test]] = TEST
        split[rows[for_test : for_test + for_select]] = SELECT
    return split


def own(official: np.ndarray | None, labels: np.ndarray, select: float) -> np.ndarray:
    """A source's own splits; where it has no `select`, that is the last share of its train.

    The last rows of train as a whole, if every class is among them; else, as where train is sorted by class, the
    last rows of each class.

    Raises:
        UserError: the source has no splits of its own.
    """
    if official is None:
        raise UserError("split: official, but this source has no splits of its own; use kind: stratified")
    split = official.copy()
    if not (split == SELECT).any():
        train = np.flatnonzero(split == TRAIN)
        chosen = train[len(train) - round(select * len(train)) :]
        if len(np.unique(labels[chosen])) < len(np.unique(labels[train])):
            by_class = [train[labels[train] == label] for label in np.unique(labels[train])]
            counts = [_within(round(select * len(rows)), len(rows) - 1) for rows in by_class]
            parts = [rows[len(rows) - n :] for rows, n in zip(by_class, counts, strict=True)]
            chosen = np.concatenate([*parts, np.empty(0, dtype=int)])
        split[chosen] = SELECT
    return split


def last(count: int, select: int, test: int) -> np.ndarray:
    """The very last `test` rows are test, the `select` rows before them select, all before those train."""
    split = np.zeros(count, dtype=np.uint8)
    split[max(count - test - select, 0) :] = SELECT
    split[max(count - test, 0) :] = TEST
    return split


def limit(listing: Listing, per_class: int) -> np.ndarray:
    """The rows, int64 (M,) and rising, of the first `per_class` images of each class in each of the source's splits.

    Images without a label count as one class.
    """
    official = np.zeros_like(listing.labels) if listing.official is None else listing.official
    group = listing.labels * len(SPLITS) + official
    order = np.argsort(group, kind="stable")
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    place = np.arange(len(group)) - np.repeat(first, count)  # of each image within its group
    return np.sort(order[place < per_class])


def refuse_small(labels: np.ndarray, classes: Sequence[str]) -> None:
    found, counts = np.unique(labels, return_counts=True)
    small = [(called(label, classes), n) for label, n in zip(found, counts, strict=True) if n < len(SPLITS)]
    if small:
        name, count = small[0]
        more = f" (and {len(small) - 1} more such classes)" if len(small) > 1 else ""
        raise UserError(
            f"split: {name} has {count} image{'s' if count > 1 else ''}{more}; every class needs one in train, select "
            "and test: add images, remove the class or set labels: false"
        )


def refuse_empty(split: np.ndarray, labels: np.ndarray, classes: Sequence[str], kind: str) -> None:
    """A split without images, or a class that is not in train."""
    empty = [name for i, name in enumerate(SPLITS) if not (split == i).any()]
    if empty:
        raise UserError(f"split: {kind} leaves no image of {len(split)} for {empty[0]}; change its shares or counts")
    absent = np.setdiff1d(labels, labels[split == TRAIN])
    if len(absent):
        name = called(absent[0], classes)
        raise UserError(f"split: {kind} leaves no image of {name} in train; use kind: stratified or set labels: false")


def called(label: int, classes: Sequence[str]) -> str:
    return "the dataset" if label < 0 else f"class {classes[label]!r}"


def _within(count: int, most: int) -> int:
    """At least one, but no more than `most`, so that something is left for the other splits."""
    return max(0, min(max(1, count), most))


def _rank(seed: int, row: int) -> int:
    """A 63-bit word that the row's place in the order follows from; no generator, so no library can change it."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/split/{row}".encode(), digest_size=8).digest(), "little") >> 1
