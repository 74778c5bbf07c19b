"""Stores without pixels: the same images as stores that hold them, and errors when files have changed."""

import os
import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffprobe.config.datasets import Dataset
from diffprobe.data import archives, images, imagesets, links
from diffprobe.data.listing import Files
from diffprobe.plan.job_arguments import images as subtree
from diffprobe.reporting.sizes import image_bytes
from diffprobe.runtime.errors import UserError
from diffprobe.training.imagestream import ImageStream
from diffprobe.training.stream import open_stream

N = 600  # three chunks
NAMES = [f"{i % 3}/{i} 'ä\n\udcff\".{'png' if i % 2 else 'jpg'}" for i in range(N)]
LABELS, SPLIT = np.arange(N) % 3, np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [400, 150, 50]))
CLASSES = ["a", "b", "c"]
CPU = torch.device("cpu")


def encoded(row: int) -> bytes:
    """PNG or JPEG, of a size of its own."""
    rng = np.random.default_rng(row)
    pixels = rng.integers(0, 256, (9 + row % 7, 8 + row % 5, 3), dtype=np.uint8)
    data = BytesIO()
    Image.fromarray(pixels).save(data, "png" if row % 2 else "jpeg")
    return data.getvalue()


def folder(root: Path) -> Files:
    for row, name in enumerate(NAMES):
        path = root / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(row))
    return Files((root / "files",), [(0, name) for name in NAMES])


def zips(root: Path) -> Files:
    """Two, the first half in one, the second in the other."""
    names = [f"{row}.png" for row in range(N)]
    for part in (0, 1):
        with zipfile.ZipFile(root / f"{part}.zip", "w") as archive:
            for row in range(part * N // 2, (part + 1) * N // 2):
                archive.writestr(names[row], encoded(row))
    return Files((root / "0.zip", root / "1.zip"), [(2 * row // N, name) for row, name in enumerate(names)])


def filled(path: Path, files: Files, pixels: bool, size: int | None = 8, **more: object) -> Path:
    settings = {"channels": 3, "resize": "crop", "classes": CLASSES, "scratch": path.with_name("scratch"), **more}
    n = len(files.entries)
    images.fill(path, files, LABELS[:n], SPLIT[:n], size=size, pixels=pixels, **settings)
    return path


@pytest.fixture(scope="module", params=[folder, zips])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with the pixels of these files, and one without."""
    root = tmp_path_factory.mktemp("source")
    files = request.param(root)
    return filled(root / "with.h5", files, True), filled(root / "without.h5", files, False)


def test_every_reader_gets_the_same_images(both: tuple[Path, Path]) -> None:
    for splits in (["train"], ["select", "test"]):
        expected, linked = (images.read(path, splits) for path in both)
        assert all(np.array_equal(*pair) for pair in zip(expected, linked, strict=True))
        expected, linked = (imagesets.open_images(path, splits=splits, channels=1) for path in both)
        assert linked.shape == (8, 8, 1) and linked.n == expected.n
        assert np.array_equal(expected.read(5, linked.n), linked.read(5, linked.n))
    summary, linked_summary = (images.describe(path) for path in both)
    assert summary.pop("content") != linked_summary.pop("content") and summary == linked_summary
    with images.open_store(both[0]) as expected, images.open_store(both[1]) as linked:
        assert np.array_equal(images.hdf5.read_chunk(expected, 2), images.hdf5.read_chunk(linked, 2))
        assert "images" not in linked and linked.shape == expected.shape
    assert images.check(both[1]) == [] and np.array_equal(*(images.labels(path, "select") for path in both))
    assert both[1].stat().st_size < 100_000 < both[0].stat().st_size


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, N - 1), max_size=40), batch=st.integers(1, 50))
def test_any_rows_in_any_order(both: tuple[Path, Path], rows: list[int], batch: int) -> None:
    with images.open_store(both[0]) as expected, images.open_store(both[1]) as linked:
        pairs = zip(
            *(images.batches(file, np.array(rows, np.int64), batch) for file in (expected, linked)), strict=True
        )
        assert all(np.array_equal(*pair) for pair in pairs)


def test_training_sees_the_same(both: tuple[Path, Path]) -> None:
    streams = [ImageStream(path, ["train", "select"], 3, CPU, window=2) for path in both]
    held = [open_stream(path, ["train", "select"], 3, CPU, 1e9) for path in both]
    for expected, linked in (streams, held):
        for start in (0, 100, 540):
            pairs = zip(expected.read(start, start + 70)[:3], linked.read(start, start + 70)[:3], strict=True)
            assert all(torch.equal(*pair) for pair in pairs)


def copied(root: Path, make: Callable[[Path], Files]) -> tuple[Path, Files]:
    files = make(root)
    return filled(root / "images.h5", files, False), files


def everything(path: Path) -> np.ndarray:
    return images.read(path, ["train", "select", "test"]).images


def test_files_that_are_gone_or_have_changed_are_named(tmp_path: Path) -> None:
    path, files = copied(tmp_path, folder)
    original, at = everything(path), tmp_path / "files"
    before = (at / NAMES[300]).stat()
    (at / NAMES[300]).write_bytes(encoded(301))
    line = rf"{re.escape(repr(NAMES[300]))} in .*files has changed since .*images\.h5 was made; restore it, or delete"
    with pytest.raises(UserError, match=line) as error:
        everything(path)
    assert "\n" not in str(error.value)
    with images.open_store(path) as file:  # the others are read
        assert np.array_equal(images.gather(file, np.arange(300)), original[:300])
    (at / NAMES[301]).write_bytes(b"")
    (at / NAMES[2]).unlink()
    damage = images.check(path)
    assert len(damage) == 2 and "is gone since" in damage[0] and damage[1].endswith("(and 1 more of its chunk)")
    (at / NAMES[300]).write_bytes(encoded(300))
    os.utime(at / NAMES[300], ns=(before.st_atime_ns, before.st_mtime_ns))
    with images.open_store(path) as file:
        assert np.array_equal(images.gather(file, np.array([300])), original[[300]])
    filled(path, Files(files.archives, files.entries[3:]), False)
    assert images.check(path) == []


def test_zips_may_be_written_again_but_not_changed(tmp_path: Path) -> None:
    path, files = copied(tmp_path, zips)
    original, content = everything(path), images.describe(path)["content"]
    zips(tmp_path)
    os.utime(tmp_path / "1.zip", (1, 1))
    assert np.array_equal(everything(path), original) and images.check(path) == []
    assert images.describe(filled(path, files, False))["content"] == content
    with zipfile.ZipFile(tmp_path / "1.zip", "w") as archive:
        archive.writestr("300.png", encoded(1))
    damage = images.check(path)
    assert "'300.png' in" in damage[0] and "has changed since" in damage[0] and "'512.png'" in damage[1]
    (tmp_path / "1.zip").unlink()
    with pytest.raises(UserError, match=r"'300.png' in .*1\.zip is gone since"):
        everything(path)


def test_content_depends_on_files_labels_and_rule_but_not_on_the_folder(tmp_path: Path) -> None:
    path, files = copied(tmp_path, folder)
    content = images.describe(path)["content"]
    (tmp_path / "files").rename(tmp_path / "moved")
    moved = Files((tmp_path / "moved",), files.entries)
    assert images.describe(filled(path, moved, False))["content"] == content
    other = tmp_path / "other.h5"
    contents = {content}
    for changed in ({"size": 9}, {"channels": 1}, {"resize": "plain"}, {"order": np.arange(N)[::-1]}):
        contents.add(images.describe(filled(other, moved, False, **changed))["content"])
    os.utime(tmp_path / "moved" / NAMES[7], (1, 1))
    contents.add(images.describe(filled(other, moved, False))["content"])
    with h5py.File(other, "r+") as file:
        file["labels"][0] = 2
    assert len(contents) == 6 and len(images.check(other)) == 1


def test_damage_to_the_store_itself_is_reported(tmp_path: Path) -> None:
    path, _ = copied(tmp_path, folder)
    with h5py.File(path, "r+") as file:
        file["names"][-3] ^= 1
    assert len(images.check(path)) == 1 and "file names of rows 512 to 599 are damaged" in images.check(path)[0]
    with pytest.raises(UserError, match="rows 512 to 599 are damaged"):
        everything(path)
    with h5py.File(path, "r+") as file:
        del file["stamps"]
    with pytest.raises(UserError, match=r"no stamps\).*delete it and run again"):
        images.describe(path)


def test_another_pillow_is_refused_when_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = copied(tmp_path, zips)
    monkeypatch.setattr(links.PIL, "__version__", "0.1")
    assert len(images.labels(path, "test")) == 50
    with pytest.raises(UserError, match=r"not 0\.1 and 1; install that Pillow, or delete the store"):
        everything(path)


def test_images_are_decoded_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    original = archives.Archives.read
    monkeypatch.setattr(archives.Archives, "read", lambda self, entry: names.append(entry[1]) or original(self, entry))
    reports: list[int] = []
    files = folder(tmp_path)
    (tmp_path / "files" / NAMES[9]).write_bytes(b"no image")
    path = filled(tmp_path / "images.h5", files, False, report=reports.append)
    assert names == [NAMES[0]] and reports == [256, 512, N]
    with images.open_store(path) as file:
        images.gather(file, np.array([599, 3, 3]))
        assert sorted(names[1:]) == sorted([NAMES[599], NAMES[3], NAMES[3]])
        with pytest.raises(UserError, match="is not an image of a supported format"):
            images.gather(file, np.array([9]))


def test_sizes_that_differ_are_named_when_they_are_read(tmp_path: Path) -> None:
    for i, size in enumerate((8, 8, 9)):
        Image.new("RGB", (size, size)).save(tmp_path / f"{i}.png")
    path = filled(tmp_path / "images.h5", Files((tmp_path,), [(0, f"{i}.png") for i in range(3)]), False, size=None)
    with images.open_store(path) as file:
        assert file.shape == (3, 8, 8, 3) and images.gather(file, np.arange(2)).shape == (2, 8, 8, 3)
        with pytest.raises(UserError, match=r"'2.png' in .* is 9 x 9, but the first image is 8 x 8; set `size`"):
            images.gather(file, np.arange(3))


def test_equal_files_make_equal_bytes(tmp_path: Path) -> None:
    path, files = copied(tmp_path, zips)
    assert filled(tmp_path / "again.h5", files, False).read_bytes() == path.read_bytes()
    (tmp_path / "0.zip").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        filled(tmp_path / "again.h5", files, False)


def test_arrays_are_refused_and_the_default_changes_no_job() -> None:
    digits = Dataset(source={"kind": "digits"}, decode="when_read")
    assert [problem[0] for problem in digits.problems("datasets.x")] == ["datasets.x.decode"]
    assert "decode" not in subtree(Dataset(source={"kind": "digits"}), None)
    assert subtree(digits, None)["decode"] == "when_read"
    assert (image_bytes(digits, 10), image_bytes(Dataset(source={"kind": "digits"}), 10)) == (0, 640)
