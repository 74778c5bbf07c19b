"""The image store and its splits."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprobe.data import digits, images
from diffprobe.data.splits import SPLITS, stratified
from diffprobe.runtime.errors import UserError


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(10, 60), min_size=2, max_size=5),
    select=st.floats(0.1, 0.3),
    test=st.floats(0.1, 0.3),
    seed=st.integers(0, 10**9),
)
def test_splits_are_stratified_and_stable(counts, select, test, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    split = stratified(labels, seed, select, test)
    assert np.array_equal(split, stratified(labels, seed, select, test))
    for label, n in enumerate(counts):
        sizes = np.bincount(split[labels == label], minlength=3)
        assert sizes[SPLITS.index("test")] == round(test * n)
        assert sizes[SPLITS.index("select")] == round(select * n)
    # A row's split depends on its own class only: another class may grow without moving it.
    grown = stratified(np.append(labels, np.zeros(5, dtype=int)), seed, select, test)
    assert np.array_equal(split[labels > 0], grown[: len(labels)][labels > 0])


def test_store_round_trip_by_split(tmp_path):
    pixels, labels = digits.load()
    assert pixels.shape == (1797, 8, 8, 1) and pixels.min() == 0 and pixels.max() == 255
    split = stratified(labels, 0, 0.15, 0.2)
    path = tmp_path / "images.h5"
    images.write(path, pixels, labels, split, classes=[str(i) for i in range(10)], source="test")
    rows = [images.read(path, [name]).rows for name in SPLITS]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(1797))
    both = images.read(path, ["train", "select"])
    assert np.array_equal(both.images, pixels[both.rows]) and np.array_equal(both.labels, labels[both.rows])
    facts = images.describe(path)
    assert (facts["images"], facts["size"], facts["channels"]) == (1797, 8, 1)
    assert facts["content"] == images.content_hash(pixels, labels, split)
    with h5py.File(path) as file:
        assert file["labels"].dtype == np.int64 and file["images"].chunks[0] == images.CHUNK


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "images.h5"
    with pytest.raises(ValueError):
        images.write(path, np.zeros((3, 2, 2, 1), np.uint8), np.array(["no", "labels", "!"]), np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_store_is_named(tmp_path):
    path = tmp_path / "images.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(UserError, match=r"images\.h5.*delete it and run again"):
        images.read(path, ["train"])
