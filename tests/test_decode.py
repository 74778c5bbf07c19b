"""Filling a store from image files: parallel and interrupted runs, full disks, damaged files."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np
import psutil
import pytest
from test_convert import encoded

from diffprobe.data import decode, hdf5, images
from diffprobe.data.convert import pixels
from diffprobe.data.listing import Files
from diffprobe.runtime.errors import UserError

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)  # (H, W, C)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, np.ndarray]:
    """700 images, three chunks, in a zip and a folder with awkward names; and their pixels (N, H, W, C)."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "files").mkdir()
    truth = np.random.default_rng(1).integers(0, 256, (700, 16, 16, 3), dtype=np.uint8)
    names = [f"{i} 'ä\n\udcff\".png" for i in range(700)]
    with ZipFile(folder / "a.zip", "w") as archive:
        for i in range(400):
            archive.writestr(f"{i}.png", encoded(truth[i], "png"))
    for i in range(400, 700):
        (folder / "files" / names[i]).write_bytes(encoded(truth[i], "bmp"))
    entries = [(0, f"{i}.png") if i < 400 else (1, names[i]) for i in range(700)]
    return Files((folder / "a.zip", folder / "files"), entries), truth


LABELS, SPLIT = np.arange(700) % 7, np.arange(700) % 3
SETTINGS = {"size": 16, "channels": 3, "resize": "crop", "classes": list("abcdefg"), "name": "test"}


def fill(folder: Path, files: Files | np.ndarray, **changed: object) -> Path:
    path = folder / "images.h5"
    images.fill(path, files, LABELS, SPLIT, **{**SETTINGS, "scratch": folder / "scratch", **changed})
    return path


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the store, made by one process in one go."""
    return fill(tmp_path_factory.mktemp("expected"), source[0]).read_bytes()


def test_bytes_do_not_depend_on_workers(source, expected, tmp_path):
    reports = []
    path = fill(tmp_path, source[0], workers=3, report=reports.append)
    assert path.read_bytes() == expected and sorted(tmp_path.iterdir()) == [path]
    assert reports[-1] == 700 and reports == sorted(reports)
    assert np.array_equal(images.read(path, ["train", "select", "test"]).images, source[1])
    assert images.check(path) == []
    arrays = tmp_path / "arrays"
    assert fill(arrays, source[1]).read_bytes() == expected  # nor on whether there were files
    assert images.describe(path)["content"] == images.content_hash(source[1], LABELS, SPLIT)


def test_arrays_are_resized_too(tmp_path, source):
    path = fill(tmp_path, source[1], size=8, channels=1)
    stored = images.read(path, ["train", "select", "test"]).images
    assert stored.shape == (700, 8, 8, 1)
    assert np.array_equal(stored[3], pixels(encoded(source[1][3], "png"), "it", 8, 1, "crop"))


KILLED = """
import json, os, sys
from pathlib import Path
sys.path.append(sys.argv[1])
import psutil, test_decode as t
def report(done):
    if done >= 256:
        Path("workers").write_text(json.dumps([child.pid for child in psutil.Process().children()]))
        os.kill(os.getpid(), 9)
if __name__ == "__main__":
    archives, entries = json.loads(Path("files.json").read_text())
    t.fill(Path.cwd(), t.Files(tuple(map(Path, archives)), [tuple(e) for e in entries]), workers=2, report=report)
"""


def test_a_killed_run_resumes(source, expected, tmp_path, monkeypatch):
    files = source[0]
    (tmp_path / "files.json").write_text(json.dumps([[str(path) for path in files.archives], files.entries]))
    (tmp_path / "killed.py").write_text(KILLED)
    assert subprocess.run([sys.executable, "killed.py", Path(__file__).parent], cwd=tmp_path).returncode == -9
    assert not (tmp_path / "images.h5").exists()
    orphans = json.loads((tmp_path / "workers").read_text())
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in orphans):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)
    done = decode.read_journal(tmp_path / "scratch" / "journal.jsonl")
    assert 0 < len(done) < 3
    decodes = counted(monkeypatch)
    assert fill(tmp_path, files).read_bytes() == expected
    assert len(decodes) == 700 - sum(chunk.images for chunk in done.values())


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded for a chunk from now on."""
    names: list[str] = []
    original = decode.decode_image
    monkeypatch.setattr(decode, "decode_image", lambda entry, *more: names.append(entry[1]) or original(entry, *more))
    return names


class StoppedError(Exception):
    pass


def stop_after(images_done: int):
    def report(done: int) -> None:
        if done >= images_done:
            raise StoppedError

    return report


def flip(file: BinaryIO, at: int) -> None:
    """Change one bit of an open file."""
    byte = os.pread(file.fileno(), 1, at)[0]
    os.pwrite(file.fileno(), bytes([byte ^ 1]), at)


def test_what_a_killed_run_left_is_not_trusted_blindly(source, expected, tmp_path, monkeypatch):
    with pytest.raises(StoppedError):
        fill(tmp_path, source[0], report=stop_after(512))
    raw, journal = tmp_path / "scratch" / "images.h5", tmp_path / "scratch" / "journal.jsonl"
    with raw.open("r+b") as file:
        flip(file, hdf5.chunk_offsets(raw)[0] + 1000)
    journal.write_text(journal.read_text() + '[2, "a torn li')
    decodes = counted(monkeypatch)
    with pytest.raises(StoppedError):
        fill(tmp_path, source[0], report=stop_after(512))
    assert len(decodes) == 256 and decodes[0] == "0.png"  # the chunk whose bytes were damaged, no other
    os.utime(source[0].archives[1] / source[0].entries[450][1], (1, 1))
    assert fill(tmp_path, source[0]).read_bytes() == expected
    assert len(decodes) == 256 + 256 + 188  # the chunk of the changed file, and the missing one


@pytest.mark.parametrize("changed", [{"size": 8}, {"channels": 1}, {"resize": "plain"}, {"name": "other"}])
def test_a_scratch_of_another_identity_is_not_used(source, tmp_path, monkeypatch, changed):
    with pytest.raises(StoppedError):
        fill(tmp_path, source[0], report=stop_after(512))
    decodes = counted(monkeypatch)
    path = fill(tmp_path, source[0], **changed)
    assert len(decodes) == 700 and images.check(path) == [] and not (tmp_path / "scratch").exists()


def full(*arguments: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


NO_ROOM = shutil.disk_usage("/")._replace(free=500_000)


@pytest.mark.parametrize("lack", [(os, "posix_fallocate", full), (shutil, "disk_usage", lambda path: NO_ROOM)])
def test_a_full_disk_is_named_before_anything_is_decoded(source, tmp_path, monkeypatch, lack):
    monkeypatch.setattr(*lack)
    decodes = counted(monkeypatch)
    line = r"scratch/images\.h5: cannot be written \(No space left .*; [\d.e-]+ GB free of 0\.000538 GB needed\); free"
    with pytest.raises(UserError, match=line):
        fill(tmp_path, source[0], workers=2)
    assert decodes == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"images\.h5: cannot be written \(No space"):
        fill(tmp_path, source[1])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_later_loses_no_work(source, expected, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(UserError, match="No space left"):
        patched.setattr(os, "pwrite", full)
        fill(tmp_path, source[0])
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert fill(tmp_path, source[0]).read_bytes() == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_file_is_named_on_one_line(tmp_path, workers):
    names = [f"{i}.png" for i in range(299)] + ["two\nlines \udcff.png"]
    for name in names:
        (tmp_path / name).write_bytes(encoded(PHOTO, "png"))
    (tmp_path / names[-1]).write_bytes(encoded(PHOTO, "png")[:-30])
    files = Files((tmp_path,), [(0, name) for name in names])
    arguments = {**SETTINGS, "size": None, "scratch": tmp_path / "scratch", "workers": workers}
    with pytest.raises(UserError) as caught:
        images.fill(tmp_path / "images.h5", files, np.zeros(300, int), np.zeros(300, int), **arguments)
    line = str(caught.value)
    assert line.startswith(r"'two\nlines \udcff.png' in ") and line.endswith("replace it or remove it from the dataset")
    assert "\n" not in line and str(tmp_path) in line and not (tmp_path / "images.h5").exists()


def test_damaged_zips_and_sizes_that_differ_are_named(tmp_path):
    path, files = tmp_path / "a.zip", [(0, "a.png"), (0, "b.png"), (0, "c.png")]
    with ZipFile(path, "w") as archive:
        archive.writestr("a.png", encoded(PHOTO, "png"))
        archive.writestr("b.png", encoded(PHOTO[:20, :20], "png"))
        archive.writestr("c.png", encoded(PHOTO[:20], "png"))

    def make(entries: list[tuple[int, str]]) -> None:
        arguments = {**SETTINGS, "size": None, "scratch": tmp_path / "scratch"}
        images.fill(tmp_path / "s.h5", Files((path,), entries), np.zeros(1, int), np.zeros(1, int), **arguments)

    with pytest.raises(UserError, match=r"'b.png' in .*a.zip is 20 x 20, but the first image is 24 x 24; set `size`"):
        make(files[:2])
    with pytest.raises(UserError, match=r"'c.png' in .* is 24 x 20, but networks take squares; set `size`"):
        make(files[2:])
    with pytest.raises(UserError, match=r"'d.png' in .* cannot be read"):
        make([(0, "d.png")])
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"'a.png' in .* cannot be read .*CRC"):
        make(files[:1])
