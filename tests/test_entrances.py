"""Files as they come in: of another form, larger than they can be, locked, or refused by the system."""

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from diffprobe.data import images, samples
from diffprobe.data.imagesets import open_images
from diffprobe.reporting.verify import verify_paths
from diffprobe.runtime.errors import UserError

N = 300  # two chunks


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "images.h5"
    pixels = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
    images.write(path, pixels, np.arange(N) % 3, np.repeat([0, 1, 2], N // 3), classes=["a", "b", "c"])
    return path


def replaced(name: str, **options: object) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return edit


def outside(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.ExternalLink("another.h5", "labels")


def without_access(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "a paragraph\nby a library")

    return refuse


HUGE = 10**12
STORES = {
    "labels of floats": (replaced("labels", data=np.zeros(N)), "labels is float64"),
    "labels of others": (replaced("labels", data=np.zeros(7, np.int64)), r"labels is int64 \(7,\)"),
    "a group": (lambda file: (file.pop("split"), file.create_group("split")), "split is not an array"),
    "another file's": (outside, "labels is not an array of this file"),
    "text": (lambda file: file.attrs.__setitem__("classes", "not JSON"), "classes is no JSON list"),
    "numbers": (lambda file: file.attrs.__setitem__("classes", "[1, 2]"), "classes are not names"),
    "no content": (lambda file: file.attrs.__setitem__("content", 7), "no content"),
    "enormous": (
        replaced("images", shape=(HUGE, 4, 4, 3), dtype=np.uint8, chunks=(256, 4, 4, 3)),
        "more than",
    ),
    "no images": (replaced("images", shape=(0, 4, 4, 3), dtype=np.uint8), "images of shape"),
    "flat": (replaced("images", data=np.zeros((N, 48), np.uint8)), "images of shape"),
}


@pytest.mark.parametrize("kind", STORES)
def test_an_image_store_of_another_form_is_refused_in_one_line(store: Path, kind: str) -> None:
    edit, line = STORES[kind]
    with h5py.File(store, "r+") as file:
        edit(file)
    for read in (images.describe, images.check, lambda path: images.read(path, ["train"])):
        with pytest.raises(UserError, match=line) as error:
            read(store)
        assert str(error.value).startswith(f"{store}: ") and "\n" not in str(error.value)


def test_a_locked_image_store_is_read(store: Path) -> None:
    """As where the file system has no locks."""
    with store.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert images.check(store) == [] and len(images.read(store, ["train"]).images) == N // 3


CAUSES = pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "give this user the right to read it"),
        (errno.EMFILE, "raise the limit on open files"),
        (errno.EIO, "the file may be whole"),
        (errno.ESTALE, "the file may be whole"),
    ],
)


@CAUSES
def test_refused_access_is_no_reason_to_delete(
    store: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def opened() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(h5py.h5f, "open", without_access(number))
            images.describe(store)

    def read() -> None:
        with images.open_store(store) as file, monkeypatch.context() as patch:
            patch.setattr(h5py.Dataset, "__getitem__", without_access(number))
            images.gather(file, np.arange(3))

    def repaired() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(h5py.h5f, "open", without_access(number))
            verify_paths([store], repair=True)

    for action in (opened, read, repaired):
        with pytest.raises(UserError, match=remedy) as error:
            action()
        line = str(error.value)
        assert str(store) in line and "delete" not in line and "\n" not in line
    assert images.check(store) == []


@CAUSES
def test_nor_is_it_for_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    path = tmp_path / "samples.zarr"
    pixels = np.zeros((N, 2, 2, 3), np.uint8)
    draw = lambda start, stop: pixels[start:stop]  # noqa: E731
    samples.fill(path, N, (2, 2, 3), {}, draw, lambda done: None)
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for module, name in ((zarr, "open_array"), (zarr.Array, "__getitem__")):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=remedy) as error:
            patch.setattr(module, name, without_access(number))
            verify_paths([path], repair=True)
        assert "delete" not in str(error.value) and "\n" not in str(error.value)
    assert files == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_damage_is_noticed_where_an_npz_is_read_out_of_order(tmp_path: Path) -> None:
    """As by several processes: zipfile compares the checksum in one pass from the beginning only."""
    path = tmp_path / "images.npz"
    np.savez(path, arr_0=np.zeros((N, 4, 4, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    image_set = open_images(path)
    image_set.read(200, 250)
    with pytest.raises(UserError, match=r"images\.npz: damaged or incomplete .*CRC"):
        _ = image_set.identity


@pytest.mark.parametrize("shape", [(10**12, 8, 8, 3), (-1, -8, 8, 3), (1, 2**20, 2**20, 3), (2**40, 2**40, 2**40, 3)])
def test_the_size_that_an_npy_declares_is_not_believed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "images.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(192))
    with pytest.raises(UserError, match=r"images\.npy: ") as error:
        open_images(path)
    assert "\n" not in str(error.value)
