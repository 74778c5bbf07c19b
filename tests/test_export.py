"""Exports: what other tools read is what was there, whole or not at all, in bounded memory."""

import errno
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprobe.data import export
from diffprobe.data.export import to_npz, to_png
from diffprobe.data.imagesets import ImageSet, batches, open_images
from diffprobe.runtime.errors import UserError

TRUTH = np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)  # (N, H, W, C)


def of(images: np.ndarray) -> ImageSet:
    return ImageSet("toy", len(images), images.shape[1:], lambda start, stop: images[start:stop], dict)


def failing(at: int, error: Exception) -> ImageSet:
    """A set that cannot be read beyond row `at`."""

    def read(start: int, stop: int) -> np.ndarray:
        if start >= at:
            raise error
        return TRUTH[start:stop]

    return ImageSet("toy", len(TRUTH), TRUTH.shape[1:], read, dict)


def test_an_npz_is_one_uncompressed_member_for_numpy_and_for_us(tmp_path: Path):
    to_npz(of(TRUTH), tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz") as file:
        assert file.files == ["arr_0"]
        assert file["arr_0"].dtype == np.uint8 and np.array_equal(file["arr_0"], TRUTH)
    again = np.concatenate(list(batches(open_images(tmp_path / "samples.npz"), 100)))
    assert np.array_equal(again, TRUTH)
    with zipfile.ZipFile(tmp_path / "samples.npz") as archive:
        [member] = archive.infolist()
        assert archive.testzip() is None
    assert (member.filename, member.compress_type) == ("arr_0.npy", zipfile.ZIP_STORED)
    assert (tmp_path / "samples.npz").stat().st_size < TRUTH.nbytes + 500


def test_equal_images_make_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    to_npz(of(TRUTH), tmp_path / "a.npz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    to_npz(of(TRUTH.copy()), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(("colour", "channels"), [(True, 3), (False, 1)])
def test_grey_images_become_colours_for_adm(colour: bool, channels: int, tmp_path: Path):
    to_npz(of(TRUTH[..., :1]), tmp_path / "grey.npz", colour=colour)
    with np.load(tmp_path / "grey.npz") as file:
        assert np.array_equal(file["arr_0"], TRUTH[..., :1].repeat(channels, axis=3))


def test_a_large_npz_is_streamed(tmp_path: Path):
    def read(start: int, stop: int) -> np.ndarray:
        rows = np.arange(start, stop).astype(np.uint8)[:, None, None, None]
        return np.broadcast_to(rows, (stop - start, 32, 32, 3))

    tracemalloc.start()
    try:
        to_npz(ImageSet("toy", 20_000, (32, 32, 3), read, dict), tmp_path / "large.npz")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    assert (tmp_path / "large.npz").stat().st_size > 61e6
    assert open_images(tmp_path / "large.npz").read(19_999, 20_000).max() == 19_999 % 256


@pytest.mark.parametrize("channels", [1, 3])
def test_pngs_are_read_equal(channels: int, tmp_path: Path):
    truth = TRUTH[..., :channels]
    to_png(of(truth), tmp_path / "pngs")
    files = sorted((tmp_path / "pngs").iterdir())
    assert [file.name for file in files] == [f"{row:06d}.png" for row in range(600)]
    for row in (0, 255, 256, 599):
        with Image.open(files[row]) as image:
            assert image.mode == ("L" if channels == 1 else "RGB")
            assert np.array_equal(np.asarray(image).reshape(8, 8, channels), truth[row])
    images = open_images(tmp_path / "pngs", channels=channels)
    assert np.array_equal(images.read(0, 600), truth)


def test_names_have_as_many_digits_as_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "DIGITS", 2)
    for n, last in ((100, "99.png"), (101, "100.png"), (1, "00.png")):
        to_png(of(TRUTH[:n]), tmp_path / str(n))
        names = sorted(file.name for file in (tmp_path / str(n)).iterdir())
        assert len(names) == n and names[-1] == last and len({len(name) for name in names}) == 1


def test_an_export_replaces_nothing(tmp_path: Path):
    (tmp_path / "pngs").mkdir()
    to_png(of(TRUTH[:5]), tmp_path / "pngs")
    (tmp_path / "file").write_text("dear")
    for name in ("pngs", "file"):
        with pytest.raises(UserError, match=f"{name}: exists and is not an empty folder; nothing is replaced"):
            to_png(of(TRUTH), tmp_path / name)
    assert len(list((tmp_path / "pngs").iterdir())) == 5 and (tmp_path / "file").read_text() == "dear"


@pytest.mark.parametrize(("write", "before"), [(to_npz, False), (to_npz, True), (to_png, False)])
def test_nothing_is_left_where_reading_fails_midway(write, before: bool, tmp_path: Path):
    path = tmp_path / ("out.npz" if write is to_npz else "out")
    if before:
        write(of(TRUTH[:3]), path)
    kept = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="row 512 is damaged"):
        write(failing(512, UserError("row 512 is damaged; mend it")), path)
    assert sorted(tmp_path.rglob("*")) == kept


@pytest.mark.parametrize("write", [to_npz, to_png])
def test_a_full_disk_ends_in_one_line(write, tmp_path: Path):
    path = tmp_path / ("out.npz" if write is to_npz else "out")
    with pytest.raises(UserError, match=r"out.*: cannot be written \(No space left") as error:
        write(failing(256, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), path)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
