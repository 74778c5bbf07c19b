"""Splits by name: `train`, `select`, `test`, cut by a rule of the config: see `config.datasets.Split`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from diffprobe.data.listing import Listing
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.located import located

if TYPE_CHECKING:
    from diffprobe.config.datasets import Last, Official, Split, Stratified

SPLITS = ("train", "select", "test")
TRAIN, SELECT, TEST = range(3)


def assign(rule: Split, labels: np.ndarray, official: np.ndarray | None, classes: Sequence[str]) -> np.ndarray:
    """The split of each row as an index into SPLITS, uint8 (N,).

    `labels` is int64 (N,), -1 for none, which counts as one class; `official` are the source's own splits, uint8 (N,).

    Raises:
        UserError: the source has no splits of its own, or a split or a class in train would be empty.
    """
    split = located(rule.build)(rule, labels, official, classes)
    refuse_empty(split, labels, classes, rule.kind)
    return split


def by_class(rule: Stratified, labels: np.ndarray, official: np.ndarray | None, classes: Sequence[str]) -> np.ndarray:
    """Shares of each class. Raises UserError where a class has fewer than three images."""
    refuse_small(labels, classes)
    return stratified(labels, rule.seed, rule.select, rule.test)


def stratified(labels: np.ndarray, seed: int, select: float, test: float) -> np.ndarray:
    """Shares of each class, as indices into SPLITS, uint8 (N,).

    Within each class, rows are put into an order that depends on (seed, row) alone; the first round(test * n) are
    `test`, the next round(select * n) are `select`, the rest `train`. A class of three images or more has at least one
    in every split, whatever rounding says.
    """
    order = np.array([_rank(seed, row) for row in range(len(labels))])
    split = np.zeros(len(labels), dtype=np.uint8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(order[rows], kind="stable")]
        # At least one row stays for each of the splits that are cut later.
        n_test = _at_least_one(round(test * len(rows)), len(rows) - 2)
        n_select = _at_least_one(round(select * len(rows)), len(rows) - 1 - n_test)
        split[rows[:n_test]] = TEST
        split[rows[n_test : n_test + n_select]] = SELECT
    return split


def by_source(rule: Official, labels: np.ndarray, official: np.ndarray | None, classes: Sequence[str]) -> np.ndarray:
    """A source's own splits; a missing `select` is the last share of its train.

    That is the last rows of train as a whole if they contain every class, else (where train is sorted by class) the
    last rows of each class. Raises UserError where the source has no splits of its own.
    """
    if official is None:
        raise UserError("split: official, but this source has no splits of its own; use kind: stratified")
    split = official.copy()
    if not (split == SELECT).any():
        train = np.flatnonzero(split == TRAIN)
        # The end of train, as CIFAR-10's usual validation set (rows 45,000 to 49,999) is cut.
        tail = train[len(train) - round(rule.select * len(train)) :]
        if len(np.unique(labels[tail])) < len(np.unique(labels[train])):
            members = [train[labels[train] == label] for label in np.unique(labels[train])]
            counts = [_at_least_one(round(rule.select * len(rows)), len(rows) - 1) for rows in members]
            tails = [rows[len(rows) - n :] for rows, n in zip(members, counts, strict=True)]
            tail = np.concatenate([*tails, np.empty(0, dtype=int)])  # the empty array for a train without rows
        split[tail] = SELECT
    return split


def by_position(rule: Last, labels: np.ndarray, official: np.ndarray | None, classes: Sequence[str]) -> np.ndarray:
    """The last `test` rows are test, the `select` rows before them select, all others train."""
    count = len(labels)
    split = np.zeros(count, dtype=np.uint8)
    split[max(count - rule.test - rule.select, 0) :] = SELECT  # max: a negative start would count from the end
    split[max(count - rule.test, 0) :] = TEST
    return split


def only(listing: Listing, name: str) -> Listing:
    """The images of one of the source's own splits, which have no split any more.

    Raises UserError where the source has no such split.
    """
    if listing.official is None or not (here := listing.official == SPLITS.index(name)).any():
        raise UserError(f"only: {name}, but this source has no such split of its own; leave it out")
    return replace(listing.take(np.flatnonzero(here)), official=None)


def limit(listing: Listing, per_class: int) -> np.ndarray:
    """The rows, int64 (M,) ascending, of the first `per_class` images of each class in each of the source's splits.

    Images without a label count as one class.
    """
    official = np.zeros_like(listing.labels) if listing.official is None else listing.official
    # One number for each pair of class and split; a stable sort keeps the source's order within it.
    group = listing.labels * len(SPLITS) + official
    order = np.argsort(group, kind="stable")
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    index = np.arange(len(group)) - np.repeat(first, count)  # of each image within its group
    return np.sort(order[index < per_class])


def refuse_small(labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise UserError where a class has fewer images than there are splits."""
    values, counts = np.unique(labels, return_counts=True)
    small = [(class_name(label, classes), n) for label, n in zip(values, counts, strict=True) if n < len(SPLITS)]
    if small:
        name, count = small[0]
        if not classes:
            images = f"{count} image{'s' if count > 1 else ''}"
            raise UserError(f"split: the dataset has {images}, too few for train, select and test; add images")
        more = f" (and {len(small) - 1} more such classes)" if len(small) > 1 else ""
        raise UserError(
            f"split: {name} has {count} image{'s' if count > 1 else ''}{more}; every class needs one in train, select "
            "and test: add images, remove the class or set labels: false"
        )


def refuse_empty(split: np.ndarray, labels: np.ndarray, classes: Sequence[str], kind: str) -> None:
    """Raise UserError for a split without images, or a class without images in train."""
    empty = [name for i, name in enumerate(SPLITS) if not (split == i).any()]
    if empty:
        raise UserError(f"split: {kind} leaves no image of {len(split)} for {empty[0]}; change its shares or counts")
    # Heads cannot learn a class that is absent from train.
    absent = np.setdiff1d(labels, labels[split == TRAIN])
    if len(absent):
        name = class_name(absent[0], classes)
        raise UserError(f"split: {kind} leaves no image of {name} in train; use kind: stratified or set labels: false")


def class_name(label: int, classes: Sequence[str]) -> str:
    return "the dataset" if label < 0 else f"class {classes[label]!r}"


def _at_least_one(count: int, most: int) -> int:
    """`count` raised to 1, then limited to `most`, so that something is left for the other splits."""
    return max(0, min(max(1, count), most))


def _rank(seed: int, row: int) -> int:
    """A 63-bit sort key; from a hash and not a random generator, whose stream a new version of numpy may change."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/split/{row}".encode(), digest_size=8).digest(), "little") >> 1
