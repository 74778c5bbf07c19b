"""Any images as a stream: the same pixels from every kind, with any batch size, in bounded memory."""

import gc
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_convert import encoded

from diffprobe.data import convert, images, samples
from diffprobe.data.imagesets import ImageSet, batches, open_images
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError

N, SIZE = 600, 8
TRUTH = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)  # (N, H, W, C)
SPLIT = np.random.default_rng(1).integers(0, 3, N)
KINDS = (
    "images.h5",
    "drawn.zarr",
    "drawn.zarr/zarr.json",
    "stored.npz",
    "packed.npz",
    "array.npy",
    "flat.zip",
    "files",
)


def lay_out(folder: Path, truth: np.ndarray) -> Path:
    """The same images in every kind."""
    images.write(folder / "images.h5", truth, np.zeros(len(truth), int), SPLIT[: len(truth)], classes=["a"])
    about = {"seed": 0}
    samples.fill(folder / "drawn.zarr", len(truth), truth.shape[1:], about, lambda a, b: truth[a:b], lambda done: None)
    np.savez(folder / "stored.npz", arr_0=truth, arr_1=np.arange(3))
    np.savez_compressed(folder / "packed.npz", labels=np.arange(3), arr_0=truth)
    np.save(folder / "array.npy", truth)
    (folder / "files" / "class").mkdir(parents=True)
    with zipfile.ZipFile(folder / "flat.zip", "w") as archive:
        for row, image in enumerate(truth):
            archive.writestr(f"{row:04d}.png", encoded(image, "png"))
            (folder / "files" / "class" / f"{row:04d}.png").write_bytes(encoded(image, "png"))
    return folder


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("kinds"), TRUTH)


def whole(images: ImageSet, batch: int = 256) -> np.ndarray:
    return np.concatenate(list(batches(images, batch)))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_pixels(name: str, kinds: Path):
    image_set = open_images(kinds / name)
    assert (image_set.n, image_set.shape) == (N, (SIZE, SIZE, 3)) and str(kinds) in image_set.origin
    for batch in (1, 7, 64, 300):
        parts = list(batches(image_set, batch))
        assert all(len(part) == batch for part in parts[:-1]) and parts[0].dtype == np.uint8
        assert np.array_equal(np.concatenate(parts), TRUTH)
    for start, stop in ((0, 5), (255, 257), (100, 580), (599, 600), (590, None)):
        assert np.array_equal(np.concatenate(list(batches(image_set, 64, start, stop))), TRUTH[start:stop])
    assert list(batches(image_set, 64, 7, 7)) == list(batches(image_set, 64, N)) == []
    rows = image_set.read(512, 514)
    assert rows.flags.writeable and np.array_equal(rows, TRUTH[512:514])
    assert np.array_equal(image_set.read(2, 3), TRUTH[2:3])  # backwards


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("size", "channels", "resize"), [(6, 3, "crop"), (12, 1, "plain"), (None, 1, "crop")])
def test_one_rule_for_all_kinds(name: str, size: int, channels: int, resize: str, kinds: Path):
    image_set = open_images(kinds / name, size=size, channels=channels, resize=resize)
    expected = [convert.pixels(encoded(image, "png"), "it", size, channels, resize) for image in TRUTH[:30]]
    assert image_set.shape == expected[0].shape and np.array_equal(image_set.read(0, 30), expected)
    assert image_set.identity != open_images(kinds / name).identity


def test_channels_are_converted(tmp_path: Path):
    """Without `channels` arrays stay as they are, and files, whose channels are unknown, are read in colour."""
    grey = TRUTH[:20, :, :, :1]
    lay_out(tmp_path, grey)
    np.savez(tmp_path / "flat.npz", grey[..., 0])  # (N, H, W)
    for name in (*KINDS, "flat.npz"):
        arrays = any(form in name for form in (".npz", ".npy", ".h5", ".zarr"))
        assert open_images(tmp_path / name).shape[2] == (1 if arrays else 3)
        assert np.array_equal(open_images(tmp_path / name, channels=3).read(0, 20), grey.repeat(3, axis=3))
        assert np.array_equal(open_images(tmp_path / name, channels=1).read(0, 20), grey)


def test_splits_of_a_store(kinds: Path):
    for splits in (["select"], ["test", "train"], list(SPLITS)):
        rows = np.isin(SPLIT, [SPLITS.index(split) for split in splits])
        image_set = open_images(kinds / "images.h5", splits=splits)
        assert image_set.n == rows.sum() and np.array_equal(whole(image_set, 50), TRUTH[rows])
        assert image_set.identity["splits"] == sorted(splits, key=SPLITS.index)
    assert image_set.identity == open_images(kinds / "images.h5").identity


def test_identities_tell_the_content(kinds: Path, tmp_path: Path):
    changed = TRUTH.copy()
    changed[77, 3, 3, 0] ^= 1
    lay_out(tmp_path, changed)
    for name in KINDS:
        kept, other = (open_images(folder / name).identity for folder in (kinds, tmp_path))
        assert kept == open_images(kinds / name, size=SIZE if name not in ("files", "flat.zip") else None).identity
        assert kept != other
    assert open_images(kinds / "drawn.zarr").identity["about"] == {"seed": 0}


def test_an_identity_is_computed_once_and_only_if_needed():
    calls = []
    image_set = ImageSet("toy", 1, (1, 1, 1), lambda start, stop: np.zeros(0), lambda: calls.append(1) or {"a": 1})
    assert not calls
    assert image_set.identity == image_set.identity == {"a": 1} and len(calls) == 1


def counted(n: int) -> tuple[ImageSet, list[tuple[int, int]]]:
    """A set of n pixels, and a record of its reads."""
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> np.ndarray:
        reads.append((start, stop))
        return (np.arange(start, stop) % 251).astype(np.uint8).reshape(-1, 1, 1, 1)

    return ImageSet("toy", n, (1, 1, 1), read, dict), reads


@pytest.mark.parametrize(("batch", "block"), [(1, 256), (64, 256), (256, 256), (257, 512), (600, 768)])
def test_reads_are_of_whole_chunks_and_no_more_than_one_ahead(batch: int, block: int):
    image_set, reads = counted(3000)
    stream = batches(image_set, batch, 300)
    assert reads == []
    for done in range(300, 3000, batch):
        row = next(stream)[0, 0, 0, 0]
        assert row == done % 251
        assert reads[-1][0] < done + 2 * block
    assert [start for start, _ in reads[1:]] == list(range((300 // block + 1) * block, 3000, block))
    assert [stop for _, stop in reads] == [start for start, _ in reads[1:]] + [3000]


@pytest.mark.parametrize(("batch", "start", "stop"), [(0, 0, 1), (1, -1, 1), (1, 0, 4), (1, 2, 1)])
def test_invalid_ranges(batch: int, start: int, stop: int):
    with pytest.raises(ValueError, match="toy: rows"):
        batches(counted(3)[0], batch, start, stop)


def threads() -> int:
    return threading.active_count()


def test_errors_of_the_reading_thread_surface_and_it_ends():
    before, (good, _) = threads(), counted(1000)

    def failing(start: int, stop: int) -> np.ndarray:
        if start >= 512:
            raise UserError("row 512 is damaged; mend it")
        return good.read(start, stop)

    stream, rows_read = batches(replace(good, read=failing), 100), 0
    with pytest.raises(UserError, match="row 512 is damaged"):
        for part in stream:
            rows_read += len(part)
    assert rows_read == 500 and threads() == before


@pytest.mark.parametrize("batch", [10, 100, 256])
def test_the_thread_ends_when_the_caller_stops_early(batch: int):
    before, (image_set, reads) = threads(), counted(10_000)
    stream = batches(image_set, batch)
    next(stream)
    assert threads() == before + 1
    del stream
    assert threads() == before and len(reads) == 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_a_large_array_is_streamed(save: Callable, tmp_path: Path):
    path = tmp_path / f"large.{'npy' if save is np.save else 'npz'}"
    save(path, np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (20_000, 32, 32, 3)).copy())  # 61 MB
    tracemalloc.start()
    try:
        assert sum(len(part) for part in batches(open_images(path), 64)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 8e6  # the most bytes that Python and numpy held
    finally:
        tracemalloc.stop()


def test_two_readers_of_one_array_do_not_disturb_each_other(kinds: Path):
    image_set = open_images(kinds / "packed.npz")
    for one, other in zip(batches(image_set, 100), batches(image_set, 100, 0), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(whole(image_set), TRUTH)


def test_files_that_are_opened_are_closed(kinds: Path):
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("no /proc")
    gc.collect()  # what other tests have left open
    before = len(list(fds.iterdir()))
    for name in KINDS:
        image_set = open_images(kinds / name)
        next(batches(image_set, 7))
        del image_set
    gc.collect()
    assert len(list(fds.iterdir())) <= before


def refusal(path: Path, **options: object) -> str:
    """The one line by which images are refused, when they are opened or read."""
    with pytest.raises(UserError) as error:
        whole(open_images(path, **options))
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "holds float32 (2, 4, 4, 3); images are uint8 (N, H, W, C)"),
        (np.zeros((2, 4, 4, 3), bool), "holds bool"),
        (np.zeros((2, 48), np.uint8), "holds uint8 (2, 48); images are uint8 (N, H, W, C) or (N, H, W)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "holds uint8 (0, 4, 4, 3)"),
        (np.asfortranarray(np.zeros((2, 4, 4, 3), np.uint8)), "in Fortran order; images are"),
        (np.array([[[{}]]], object), "holds object"),
        (np.zeros((2, 3, 4, 4), np.uint8), "holds images of (3, 4, 4); images must have 1 or 3 channels"),
        (np.zeros((2, 4, 6, 3), np.uint8), "holds images of (4, 6, 3); images must have 1 or 3 channels, and be "),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.save])
def test_arrays_that_are_not_images(array: np.ndarray, says: str, save: Callable, tmp_path: Path):
    path = tmp_path / ("it.npz" if save is np.savez else "it.npy")
    save(path, array)
    assert says in refusal(path)


def test_a_narrow_array_is_cropped_by_size(tmp_path: Path):
    np.save(tmp_path / "it.npy", TRUTH[:5, :, :6])
    assert open_images(tmp_path / "it.npy", size=4).read(0, 5).shape == (5, 4, 4, 3)


def test_an_npz_without_images(tmp_path: Path):
    np.savez(tmp_path / "it.npz", mu=np.zeros(3), sigma=np.zeros((3, 3)))
    assert "holds no arr_0 (it has mu, sigma); save the images as arr_0" in refusal(tmp_path / "it.npz")


@pytest.mark.parametrize("name", ["stored.npz", "packed.npz", "array.npy"])
@pytest.mark.parametrize("left", [0, 3, 100, 0.5, -1])
def test_a_truncated_array(name: str, left: float, kinds: Path, tmp_path: Path):
    data = (kinds / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(left * len(data)) if isinstance(left, float) else left])
    assert "damaged or incomplete" in refusal(tmp_path / name)


def test_an_array_whose_bytes_are_damaged(kinds: Path, tmp_path: Path):
    data = bytearray((kinds / "stored.npz").read_bytes())
    data[N * SIZE * SIZE] ^= 1
    (tmp_path / "it.npz").write_bytes(data)
    assert "damaged or incomplete (Bad CRC-32" in refusal(tmp_path / "it.npz")


def test_a_damaged_store_is_refused_where_it_is_read(kinds: Path, tmp_path: Path):
    lay_out(tmp_path, TRUTH[:300])
    (tmp_path / "drawn.zarr/images/c/1/0/0/0").unlink()
    image_set = open_images(tmp_path / "drawn.zarr")
    assert np.array_equal(image_set.read(0, 256), TRUTH[:256])
    assert "c/1/0/0/0: damaged (it is missing); delete its zarr.json" in refusal(tmp_path / "drawn.zarr")


def test_images_of_several_sizes_need_one(tmp_path: Path):
    folder = tmp_path / "files"
    folder.mkdir()
    for row, size in enumerate((8, 8, 6)):
        (folder / f"{row}.png").write_bytes(encoded(TRUTH[row, :size, :size], "png"))
    message = refusal(folder)
    assert "'2.png' in" in message and "is 6 x 6, but the first image is 8 x 8; set `size`" in message
    assert whole(open_images(folder, size=4)).shape == (3, 4, 4, 3)


def test_what_cannot_be_read_at_all(kinds: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refusal(tmp_path / "empty")
    (tmp_path / "it.txt").write_text("it")
    assert "holds no images in a supported form; images are read from an image store" in refusal(tmp_path / "it.txt")
    assert "no such file or folder; images are read from" in refusal(tmp_path / "none.npz")
    assert "no finished store of samples" in refusal(tmp_path / "none.zarr")
    (tmp_path / "it.h5").write_text("it")
    assert "not a readable image store" in refusal(tmp_path / "it.h5")
    (tmp_path / "it.zip").write_text("it")
    assert "damaged or not a zip" in refusal(tmp_path / "it.zip")
    assert "only an image store (.h5) has splits" in refusal(kinds / "array.npy", splits=["train"])
    assert "no split val; choose from train, select, test" in refusal(kinds / "images.h5", splits=["val"])
    images.write(tmp_path / "one.h5", TRUTH[:4], np.zeros(4, int), np.zeros(4), classes=["a"])
    assert "(test): holds no image; choose other splits" in refusal(tmp_path / "one.h5", splits=["test"])
