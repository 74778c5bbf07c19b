"""The image store and its splits."""

import hashlib
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprobe.data import images
from diffprobe.data.sources import digits
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
    summary = images.describe(path)
    assert (summary["images"], summary["size"], summary["channels"]) == (1797, 8, 1)
    assert summary["content"] == images.content_hash(pixels, labels, split)
    with h5py.File(path) as file:
        assert file["labels"].dtype == np.int64 and file["images"].chunks[0] == images.CHUNK
        assert file["images"].compression is None
        chunks = [hashlib.sha256(pixels[i : i + 256].tobytes()).digest() for i in range(0, 1797, 256)]
        assert file["hashes"][:].tobytes() == b"".join(chunks)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A store of 600 images, three chunks, and what it holds."""
    path = tmp_path_factory.mktemp("store") / "images.h5"
    pixels = np.random.default_rng(0).integers(0, 256, (600, 5, 5, 3), dtype=np.uint8)
    images.write(path, pixels, np.arange(600) % 3, np.repeat([0, 1, 2], [500, 60, 40]), classes=["a", "b", "c"])
    return path, pixels


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.integers(0, 599), max_size=40), batch=st.integers(1, 50))
def test_any_rows_are_read_in_any_order(store, rows, batch):
    with images.open_store(store[0]) as file:
        parts = list(images.batches(file, np.array(rows, np.int64), batch))
    assert all(len(part) == batch for part in parts[:-1]) and sum(map(len, parts)) == len(rows)
    assert not rows or np.array_equal(np.concatenate(parts), store[1][rows])


def test_a_small_split_reads_its_own_chunks_only(store, monkeypatch):
    slices = []
    original = h5py.Dataset.__getitem__
    spy = lambda data, key: (data.ndim == 4 and slices.append(key)) or original(data, key)  # noqa: E731
    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    assert np.array_equal(images.read(store[0], ["test"]).images, store[1][560:])
    assert slices == [slice(512, 768)]  # the chunk, whose hash is compared


@pytest.mark.parametrize(("row", "named"), [(0, "0 to 255"), (300, "256 to 511"), (599, "512 to 599")])
def test_damage_is_reported_by_rows(store, tmp_path, row, named):
    path = tmp_path / "images.h5"
    data = store[0].read_bytes()
    at = data.index(store[1][row].tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert images.check(store[0]) == []
    line = f"{path}: images of rows {named} are damaged; delete the file and run again"
    assert images.check(path) == [line]
    with pytest.raises(UserError, match=re.escape(line)):  # what is read is as it was written
        images.read(path, ["train", "select", "test"])


def test_damaged_labels_are_reported(store, tmp_path):
    path = tmp_path / "images.h5"
    path.write_bytes(store[0].read_bytes())
    with h5py.File(path, "r+") as file:
        file["labels"][3] += 1
    assert len(images.check(path)) == 1 and "labels" in images.check(path)[0]


def test_equal_content_makes_equal_bytes(store, tmp_path):
    for name, labels in (("same", np.arange(600) % 3), ("other", np.arange(600) % 2)):
        split = np.repeat([0, 1, 2], [500, 60, 40])
        images.write(tmp_path / name, store[1], labels, split, classes=["a", "b", "c"])
    assert (tmp_path / "same").read_bytes() == store[0].read_bytes()
    contents = [images.describe(path)["content"] for path in (store[0], tmp_path / "same", tmp_path / "other")]
    assert contents[0] == contents[1] != contents[2]


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "images.h5"
    with pytest.raises(ValueError):
        images.write(path, np.zeros((3, 2, 2, 1), np.uint8), np.array(["no", "labels", "!"]), np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_store_is_named(tmp_path, store):
    path = tmp_path / "images.h5"
    for broken in (b"not HDF5", store[0].read_bytes()[:-4000]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"images\.h5.*delete it and run again"):
            images.read(path, ["train"])
    with h5py.File(path, "w") as file:
        file["something"] = 1
    with pytest.raises(UserError, match=r"no images\).*delete it and run again"):
        images.describe(path)
