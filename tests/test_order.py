"""The order of a store's rows: shuffled where a source comes class by class, and nothing else changed by it."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from test_bad_input import made
from test_decode import StoppedError, stop_after

from diffprobe.config.datasets import Stratified
from diffprobe.config.sources.folder import Folder
from diffprobe.data import decode, images, order, sources
from diffprobe.data.listing import Files, Listing
from diffprobe.data.splits import assign

CLASSES, EACH = 5, 120
NAMES = [f"{c}/{i:03}.png" for c in "abcde" for i in range(EACH)]  # in the order of the listing
SPLITS = ["train", "select", "test"]


def picture(row: int) -> Image.Image:
    """Its corner encodes its index in the listing."""
    return Image.fromarray(np.array([[[row // 256, row % 256, 7]]], np.uint8).repeat(8, 0).repeat(8, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sorted") / "photos"
    for row, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(row).save(root / name)
    return root


def store(where: Path, path: Path, **dataset: object) -> Path:
    job = made(where, path, **dataset)
    assert job.returncode == 0, job.stderr
    return where / "out" / "images.h5"


def listed(path: Path) -> np.ndarray:
    """The index in the listing of the image at each row, by its pixels."""
    corner = images.read(path, SPLITS).images[:, 0, 0].astype(int)  # (N, 3)
    return corner[:, 0] * 256 + corner[:, 1]


@pytest.mark.parametrize("decoded", ["once", "when_read"])
def test_rows_of_a_class_sorted_folder_are_mixed_and_splits_stay(folder: Path, tmp_path: Path, decoded: str) -> None:
    path = store(tmp_path, folder, decode=decoded)
    with images.open_store(path) as file:
        rows, labels, split = (file[name][:] for name in ("order", "labels", "split"))
    assert rows.dtype == np.int64 and np.array_equal(np.sort(rows), np.arange(len(NAMES)))
    assert np.array_equal(listed(path), rows) and np.array_equal(labels, rows // EACH)
    for start in range(0, len(rows), 256):
        chunk = labels[start : start + 256]
        assert np.bincount(chunk, minlength=CLASSES).min() > len(chunk) / CLASSES / 2
    rule = Stratified(kind="stratified")
    assert np.array_equal(split, assign(rule, np.arange(len(NAMES)) // EACH, None, list("abcde"))[rows])
    assert images.check(path) == []


@pytest.mark.parametrize("rule", [None, {"kind": "last", "select": 50, "test": 60}])
def test_splits_and_limits_are_those_of_the_listing(folder: Path, tmp_path: Path, rule: dict | None) -> None:
    path = store(tmp_path, folder, per_class=None if rule else 60, split=rule)
    rows = {name: sorted(listed(path)[images.read(path, [name]).rows].tolist()) for name in SPLITS}
    if rule:
        assert rows == {"train": list(range(490)), "select": list(range(490, 540)), "test": list(range(540, 600))}
    else:
        assert sorted(row for split in rows.values() for row in split) == [
            c * EACH + i for c in range(CLASSES) for i in range(60)
        ]
        with images.open_store(path) as file:
            assert np.array_equal(np.sort(file["order"][:]), np.arange(60 * CLASSES))


def test_the_order_is_part_of_what_is_checked(folder: Path, tmp_path: Path) -> None:
    path = store(tmp_path, folder)
    with h5py.File(path, "r+") as file:
        file["order"][:2] = file["order"][:2][::-1]
    assert len(images.check(path)) == 1 and "delete the file" in images.check(path)[0]


def test_a_killed_run_resumes_in_the_same_order_only(folder: Path, tmp_path: Path, monkeypatch) -> None:
    listing = sources.find(Folder(kind="folder", path=str(folder)), {})
    rows = order.shuffled_rows(listing)
    names: list[str] = []
    original = decode.decode_image
    monkeypatch.setattr(decode, "decode_image", lambda entry, *more: names.append(entry[1]) or original(entry, *more))

    def fill(rows: np.ndarray, listing: Listing, **more: object) -> bytes:
        settings = {"size": None, "channels": 3, "resize": "crop", "scratch": tmp_path / "scratch", "order": rows}
        split = np.arange(len(rows)) % 3
        images.fill(tmp_path / "images.h5", listing.images, listing.labels, split, **settings, **more)
        return (tmp_path / "images.h5").read_bytes()

    with pytest.raises(StoppedError):
        fill(rows, listing.take(rows), report=stop_after(512))
    fill(rows, listing.take(rows))
    assert len(names) == len(NAMES)
    with pytest.raises(StoppedError):
        fill(rows, listing.take(rows), report=stop_after(512))
    before = len(names)
    fill(rows[::-1], listing.take(rows))  # the same files, said to be elsewhere in the listing
    assert len(names) - before == len(NAMES)


def of(labels: list[int], official: list[int] | None = None, archives: list[int] | None = None) -> Listing:
    entries = [(archive, str(row)) for row, archive in enumerate(archives or [0] * len(labels))]
    split = None if official is None else np.array(official, np.uint8)
    return Listing(np.array(labels), ("a", "b", "c"), split, "it", Files((Path("x"), Path("y")), entries))


CASES: dict[str, tuple[Listing, bool]] = {
    "sorted": (of([0, 0, 1, 1, 2]), True),
    "mixed": (of([0, 1, 0, 2, 1]), False),
    "one class": (of([0, 0, 0]), False),
    "no labels": (of([-1, -1, -1]), False),
    "train, then test": (of([0, 1, 1, 0, 1, 1], [0, 0, 0, 2, 2, 2]), True),
    "test, then train": (of([0, 1, 1, 0, 0, 1], [2, 2, 2, 0, 0, 0]), True),
    "a mixed test": (of([0, 1, 1, 1, 0, 1], [0, 0, 0, 2, 2, 2]), True),
    "a mixed train": (of([1, 0, 1, 0, 0, 1], [0, 0, 0, 2, 2, 2]), False),
    "two sorted zips": (of([0, 1, 2, 0, 1, 2], None, [0, 0, 0, 1, 1, 1]), True),
    "arrays": (Listing(np.arange(3), ("a", "b", "c"), None, "it", np.zeros((3, 2, 2, 1), np.uint8)), False),
    "two zips, one mixed": (of([0, 1, 2, 1, 0, 2], None, [0, 0, 0, 1, 1, 1]), False),
}


@pytest.mark.parametrize(("listing", "expected"), CASES.values(), ids=CASES)
def test_what_counts_as_sorted(listing: Listing, expected: bool) -> None:
    rows = order.shuffled_rows(listing)
    assert (rows is not None) == expected == order.is_sorted(listing)
    assert rows is None or sorted(rows) == list(range(len(listing.labels)))


def test_the_order_is_the_same_everywhere() -> None:
    """Another order would be another store."""
    assert order.shuffled_rows(of([0, 0, 1, 1, 1, 2, 2, 2])).tolist() == [0, 1, 3, 6, 5, 2, 7, 4]
