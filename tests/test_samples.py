"""The store of samples: the same bytes however often it is killed, damage never read as images."""

import errno
import json
import multiprocessing
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_latents import one_line, tree

from diffprobe.data.samples import CHUNK, check, fill, open_samples
from diffprobe.runtime.errors import UserError

N, SHAPE, ABOUT = 600, (4, 3, 3), {"sampler": "heun", "steps": 18, "seed": 0}


def draw(start: int, stop: int) -> np.ndarray:
    """Images uint8 (stop - start, 4, 3, 3), each by its index alone; those of the second chunk are black."""
    rows = np.arange(start, stop)[:, None]
    images = (rows * 89 + np.arange(36) * 31 + rows * np.arange(36) % 7).astype(np.uint8)
    images[(rows[:, 0] >= CHUNK) & (rows[:, 0] < 2 * CHUNK)] = 0
    return images.reshape(-1, *SHAPE)


class Drawing:
    """`draw` that records the first rows of the chunks it draws, and fails at one of them."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.drawn = fails_at, []

    def __call__(self, start: int, stop: int) -> np.ndarray:
        if start == self.fails_at:
            raise KeyboardInterrupt
        self.drawn.append(start)
        return draw(start, stop)


def made(path: Path, draws: Callable[[int, int], np.ndarray] = draw, n: int = N, **changes: object) -> Path:
    fill(path, n, SHAPE, {**ABOUT, **changes}, draws, lambda done: None)
    return path


def chunk_of(path: Path, row: int) -> Path:
    return path / "images" / "c" / str(row // CHUNK) / "0" / "0" / "0"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("samples") / "heun.zarr")


def test_what_was_drawn_is_read(original: Path, tmp_path: Path):
    heard: list[int] = []
    fill(tmp_path / "again.zarr", N, SHAPE, ABOUT, draw, heard.append)
    assert heard == [256, 512, 600] and tree(tmp_path / "again.zarr") == tree(original)
    for path in (original, original / "zarr.json"):
        samples = open_samples(path)
        assert (samples.path, samples.about, samples.shape) == (original, ABOUT, (N, *SHAPE))
    for start, stop in ((0, N), (0, 0), (250, 520), (599, 600), (256, 512)):
        images = samples.read(start, stop)
        assert images.dtype == np.uint8 and images.flags.writeable
        assert np.array_equal(images, draw(start, stop))
    assert check(original) == []
    with pytest.raises(ValueError):
        samples.read(500, 601)


def test_zarr_alone_reads_it(original: Path):
    images = zarr.open_group(str(original), mode="r")["images"]
    assert np.array_equal(images[:], draw(0, N))
    assert (images.chunks, images.dtype) == ((256, *SHAPE), np.uint8)
    codecs = json.loads((original / "images" / "zarr.json").read_text())["codecs"]
    assert [codec["name"] for codec in codecs] == ["bytes", "crc32c"]


def test_fewer_images_than_a_chunk_take_no_more_room(tmp_path: Path):
    path = made(tmp_path / "few.zarr", n=3)
    assert chunk_of(path, 0).stat().st_size == 3 * 36 + 4
    assert np.array_equal(open_samples(path).read(0, 3), draw(0, 3))


def cut_short(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-1])


def flipped(chunk: Path) -> None:
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 16
    chunk.write_bytes(data)


def zeroed(chunk: Path) -> None:
    chunk.write_bytes(bytes(chunk.stat().st_size))


DAMAGE = (Path.unlink, cut_short, flipped, zeroed)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 4 * CHUNK),
    deaths=st.lists(st.integers(0, 3), max_size=3),
    damage=st.dictionaries(st.integers(0, 3), st.sampled_from(DAMAGE), max_size=2),
)
def test_only_missing_chunks_are_redrawn_and_no_byte_changes(n: int, deaths: list[int], damage: dict):
    with TemporaryDirectory() as folder:
        starts = list(range(0, n, CHUNK))
        path, there = Path(folder) / "killed.zarr", set()
        for death in deaths:
            drawing = Drawing(fails_at=death * CHUNK)
            if drawing.fails_at in starts and drawing.fails_at not in there:
                with pytest.raises(KeyboardInterrupt):
                    made(path, drawing, n)
                assert set(drawing.drawn) == {start for start in starts if start < drawing.fails_at} - there
                there |= set(drawing.drawn)
                with pytest.raises(UserError, match="no finished store of samples"):
                    open_samples(path)
        for number, harm in damage.items():
            if number * CHUNK in there:
                harm(chunk_of(path, number * CHUNK))
                there.remove(number * CHUNK)
        drawing = Drawing()
        made(path, drawing, n)
        assert set(drawing.drawn) == set(starts) - there
        assert tree(path) == tree(made(Path(folder) / "undisturbed.zarr", n=n))


@pytest.mark.parametrize("harm", DAMAGE)
def test_damage_is_reported_and_only_that_chunk_is_redrawn(
    harm: Callable[[Path], None], original: Path, tmp_path: Path
):
    path = made(tmp_path / "damaged.zarr")
    harm(chunk_of(path, 300))  # of a black image: as black as what is missing
    samples = open_samples(path)
    assert np.array_equal(samples.read(512, N), draw(512, N))
    with pytest.raises(UserError, match=r"damaged.zarr/images.*: damaged \(.*; delete its zarr.json and run"):
        samples.read(250, 260)
    [line] = check(path)
    assert line.startswith(f"{chunk_of(path, 300)}: damaged (") and "\n" not in line
    drawing = Drawing()
    made(path, drawing)
    assert drawing.drawn == [256] and tree(path) == tree(original)


def test_a_chunk_of_another_store_is_reported(tmp_path: Path):
    path = made(tmp_path / "mixed.zarr")
    chunk_of(path, 0).write_bytes(chunk_of(path, 256).read_bytes())
    assert check(path) == [f"{path}: its images are not those it was completed with; delete it and run again"]


@pytest.mark.parametrize(("n", "changes"), [(N, {"seed": 1}), (N - 1, {}), (N, {"steps": 18.5})])
def test_a_store_of_another_identity_is_removed(n: int, changes: dict, original: Path, tmp_path: Path):
    path = made(tmp_path / "other.zarr", n=n, **changes)
    with pytest.raises(KeyboardInterrupt):
        made(path, Drawing(fails_at=0))
    assert list(tree(path)) == ["images/zarr.json"]
    made(path)
    assert tree(path) == tree(original)


def test_an_unreadable_store_is_replaced_and_a_file_is_not(original: Path, tmp_path: Path):
    path = tmp_path / "odd.zarr"
    (path / "images").mkdir(parents=True)
    (path / "images" / "zarr.json").write_text('{"attributes": []}')
    (path / "zarr.json").write_text("{")
    made(path)
    assert tree(path) == tree(original)
    (tmp_path / "file.zarr").write_text("something")
    with pytest.raises(UserError, match=r"file.zarr: is a link or a file"):
        made(tmp_path / "file.zarr")
    with pytest.raises(ValueError, match="named"):
        made(tmp_path)


def die_writing(path: Path, deaths: int) -> None:
    """Get killed while writing the `deaths`-th file."""
    syncs = 0

    def dying(descriptor: int) -> None:
        nonlocal syncs
        syncs += stat.S_ISREG(os.fstat(descriptor).st_mode)  # folders are synced too
        if syncs == deaths:
            os.truncate(f"/proc/self/fd/{descriptor}", 100)
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = dying
    made(path)


def test_a_kill_in_the_middle_of_a_file_leaves_nothing_half(original: Path, tmp_path: Path):
    path = tmp_path / "killed.zarr"
    killed = multiprocessing.get_context("spawn").Process(target=die_writing, args=(path, 3))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert [name for name in tree(path) if name.endswith(".part")]
    drawing = Drawing()
    made(path, drawing)
    assert drawing.drawn == [256, 512] and tree(path) == tree(original)


def test_a_full_disk_ends_in_one_line_and_keeps_what_is_whole(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 256 * 36 + 4 and chunk_of(path, 0).exists():
            raise OSError(errno.ENOSPC, "full")

    path = tmp_path / "full.zarr"
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="No space left") as error,
    ):
        patch.setattr(os, "fsync", full)
        made(path)
    assert one_line(error).startswith(f"{path}: cannot be written (")
    assert sorted(tree(path)) == ["images/c/0/0/0/0", "images/zarr.json"]
    drawing = Drawing()
    made(path, drawing)
    assert drawing.drawn == [256, 512] and tree(path) == tree(original)


def test_the_mark_is_removed_before_anything_changes(tmp_path: Path):
    path = made(tmp_path / "marked.zarr")
    flipped(chunk_of(path, 0))

    def looking(start: int, stop: int) -> np.ndarray:
        assert (path / "zarr.json").exists() == (start == 0)
        return draw(start, stop)

    cut_short(chunk_of(path, 599))
    made(path, looking)
    assert check(path) == []


@pytest.mark.parametrize("images", [np.zeros((256, *SHAPE), np.int64), np.zeros((255, *SHAPE), np.uint8)])
def test_what_is_drawn_must_be_whole_chunks_of_bytes(images: np.ndarray, tmp_path: Path):
    with pytest.raises(ValueError, match="instead of uint8"):
        made(tmp_path / "wrong.zarr", lambda start, stop: images)


def broken_mark(path: Path) -> None:
    (path / "zarr.json").write_text((path / "zarr.json").read_text().replace("heun", "euler"))


def broken_array(path: Path) -> None:
    metadata = path / "images" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("600", "500"))


def lost_array(path: Path) -> None:
    (path / "images" / "zarr.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (broken_mark, "zarr.json: is damaged or no store of samples .*; delete it and run again"),
        (lambda path: (path / "zarr.json").write_text("[]"), "zarr.json: is damaged or no store of samples"),
        (lambda path: (path / "zarr.json").unlink(), r"no finished store of samples \(no zarr.json\); run"),
        (broken_array, "array of images is damaged .*; delete the store and run|images: cannot be opened"),
        (lost_array, "array of images is damaged .*; delete the store and run|images: cannot be opened"),
    ],
)
def test_damaged_metadata_is_refused_and_made_again(
    harm: Callable[[Path], object], message: str, original: Path, tmp_path: Path
):
    path = made(tmp_path / "bad.zarr")
    harm(path)
    with pytest.raises(UserError, match=message) as error:
        open_samples(path)
    assert check(path) == [one_line(error)]
    made(path)
    assert tree(path) == tree(original)


def test_a_finished_store_is_kept_unless_the_code_has_changed(tmp_path: Path):
    """Forcing a rule after a change of the sampler must not return the images of before."""
    path, drawing = tmp_path / "code.zarr", Drawing()
    for code, drawn in (("a", [0, 256, 512]), ("a", []), ("b", [0, 256, 512])):
        drawing.drawn.clear()
        fill(path, N, SHAPE, ABOUT, drawing, lambda done: None, drawn_by=code)
        assert drawing.drawn == drawn
