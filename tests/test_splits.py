"""Splits by rule, and the first images of each class."""

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sources import refused

from diffprobe.config.datasets import Last, Official, Stratified
from diffprobe.data.listing import Files, Listing
from diffprobe.data.splits import assign, limit

TRAIN, SELECT, TEST = range(3)


SHARES = Stratified(kind="stratified", select=0.1, test=0.1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 30), min_size=1, max_size=5), st.floats(0.001, 0.9), st.floats(0.001, 0.9))
def test_every_class_of_three_is_in_every_split(counts: list[int], select: float, test: float) -> None:
    labels = np.repeat(np.arange(len(counts)) - 1, counts)
    split = assign(
        SHARES.model_copy(update={"select": select, "test": test}), labels, None, [str(i) for i in range(len(counts))]
    )
    assert {(label, part) for label, part in zip(labels, split, strict=True)} == {
        (label, part) for label in np.unique(labels) for part in range(3)
    }


def test_too_few_images() -> None:
    labels = np.array([0] * 9 + [1] + [2] * 2)
    message = r"class 'cat' has 1 image \(and 1 more such classes\); every class needs one in train, select and test"
    refused(message, assign, SHARES, labels, None, ("ant", "cat", "dog"))
    refused("the dataset has 2 images", assign, SHARES, np.array([-1, -1]), None, ())


def test_official_splits_keep_test_and_take_select_from_the_end() -> None:
    rule, official = Official(kind="official", select=0.25), np.repeat([TRAIN, TEST], [16, 4]).astype(np.uint8)
    mixed, risen = np.arange(20) % 4, np.repeat(np.arange(4), 5)
    split = assign(rule, mixed, official, "abcd")
    assert np.flatnonzero(split == SELECT).tolist() == [12, 13, 14, 15]
    grouped = np.concatenate([np.repeat(np.arange(4), 4), np.arange(4)])
    split = assign(rule, grouped, official, "abcd")
    assert np.flatnonzero(split == SELECT).tolist() == [3, 7, 11, 15]
    assert np.array_equal(split == TEST, official == TEST)
    three = np.array([TRAIN, SELECT, TEST] * 4, dtype=np.uint8)
    assert np.array_equal(assign(rule, np.zeros(12, int), three, "a"), three)
    refused("no splits of its own; use kind: stratified", assign, rule, risen, None, "abcd")
    refused("class 'd' in train", assign, rule, risen, np.repeat([TRAIN, TEST], [15, 5]).astype(np.uint8), "abcd")
    refused("no image of 20 for test", assign, rule, mixed, np.zeros(20, np.uint8), "abcd")


def test_last_rows() -> None:
    split = assign(Last(kind="last", select=2, test=3), np.zeros(10, int), None, "a")
    assert split.tolist() == [TRAIN] * 5 + [SELECT] * 2 + [TEST] * 3 and split.dtype == np.uint8
    refused("last leaves no image of 5 for train", assign, Last(kind="last", select=2, test=3), split[:5], None, "a")
    labels = np.repeat([0, 1], 5)
    refused("class 'b' in train", assign, Last(kind="last", select=2, test=3), labels, None, "ab")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=40), st.integers(1, 5))
def test_limit_takes_the_first_of_each_class(pairs: list[tuple[int, int]], per_class: int) -> None:
    labels, official = (np.array(column) for column in zip(*pairs, strict=True))
    files = Files((Path("x"),), [(0, str(i)) for i in range(len(pairs))])
    for splits in (official.astype(np.uint8), None):
        listing = Listing(labels, tuple("abcd"), splits, "", files)
        seen: Counter = Counter()
        expected = []
        for row, (label, split) in enumerate(pairs):
            group = (label, split if splits is not None else 0)
            seen[group] += 1
            if seen[group] <= per_class:
                expected.append(row)
        kept = listing.take(limit(listing, per_class))
        assert [name for _, name in kept.images.entries] == [str(row) for row in expected]
        assert np.array_equal(kept.labels, labels[expected])
        assert splits is None or np.array_equal(kept.official, splits[expected])
