"""Mistakes of users: each is refused in one line that names the file or key, and nothing is lost."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprobe.data import images

SCRIPT = Path(__file__).parents[1] / "workflow" / "scripts" / "images.py"
NAMES = ["plain.png", "naïve 絵.png", "quo'te\".png", "new\nline.png", "semi;colon $(x).png", "-n.png"]


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 12, 3), value, np.uint8)).save(path, format="png")


def folder(where: Path) -> Path:
    """Two classes of six images with awkward names."""
    for i, name in enumerate(NAMES):
        picture(where / "photos" / "a" / name, i)
        picture(where / "photos" / "b" / name, 100 + i)
    return where / "photos"


def zipped(where: Path, *, labels: dict[str, object] | None = None, more: tuple[str, ...] = ()) -> Path:
    source, target = folder(where), where / "photos.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(source.rglob("*.png")):
            archive.write(path, str(path.relative_to(source)))
        for name in more:
            archive.write(source / "a" / "plain.png", name)
        if labels is not None:
            archive.writestr("dataset.json", json.dumps(labels))
    return target


def made(where: Path, path: Path, **dataset: object) -> subprocess.CompletedProcess:
    """The job of the rule `images`, as a rule calls it."""
    kind = "zip" if path.suffix == ".zip" else "folder"
    source = {"kind": kind, "labels": True, **({"paths": [str(path)]} if kind == "zip" else {"path": str(path)})}
    config = {"source": source, "size": 8, "channels": None, "resize": "crop", "per_class": None, "split": None}
    arguments = ["--out", f"images={where}/out/images.h5", f"receipt={where}/out/images.receipt.json"]
    (where / "logs" / "images").mkdir(parents=True, exist_ok=True)
    arguments += ["--log", f"{where}/logs/images/it.log", "--threads", "1", "--name", "images.it"]
    command = [sys.executable, "-P", str(SCRIPT), json.dumps(config | dataset), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=where)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def cut_image(where: Path) -> Path:
    truncated(folder(where) / "b" / "new\nline.png")
    return where / "photos"


def cut_zip(where: Path) -> Path:
    path = zipped(where)
    truncated(path)
    return path


def one_image(where: Path) -> Path:
    picture(folder(where) / "lonely" / "x.png")
    return where / "photos"


def empty(where: Path) -> Path:
    (where / "photos").mkdir()
    return where / "photos"


def wrong_labels(where: Path) -> Path:
    return zipped(where, labels={"labels": [["a/plain.png", 0], ["a/gone.png", 1]]})


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing folder": (lambda where: where / "nowhere", "nowhere"),
    "empty folder": (empty, "photos"),
    "truncated image": (cut_image, r"new\nline.png"),
    "truncated zip": (cut_zip, "photos.zip"),
    "labels that do not match": (wrong_labels, "photos.zip"),
    "a class with one image": (one_image, "class 'lonely' has 1 image"),
    "an entry outside": (lambda where: zipped(where, more=("../../evil.png",)), "../../evil.png"),
}


@pytest.mark.parametrize(("make", "named"), BAD.values(), ids=BAD.keys())
def test_refused_in_one_line_that_names_it(tmp_path: Path, make: Callable[[Path], Path], named: str) -> None:
    job = made(tmp_path, make(tmp_path))
    assert job.returncode == 1
    assert len(job.stderr.splitlines()) == 1 and "Traceback" not in job.stderr
    assert job.stderr.startswith("images.it: error: ") and named in job.stderr
    assert not (tmp_path / "out" / "images.h5").exists() and not (tmp_path / "evil.png").exists()


@pytest.mark.parametrize("make", [folder, zipped], ids=["folder", "zip"])
def test_file_names_may_be_anything(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    if path.is_dir():
        (path / "a" / os.fsdecode(b"not utf-8 \xff.png")).write_bytes((path / "a" / "plain.png").read_bytes())
    job = made(tmp_path, path)
    assert job.returncode == 0, job.stderr
    store = images.describe(tmp_path / "out" / "images.h5")
    assert store["images"] == 12 + path.is_dir() and store["classes"] == ["a", "b"]


def test_a_corrected_mistake_is_enough_to_resume(tmp_path: Path) -> None:
    path = cut_image(tmp_path)
    assert made(tmp_path, path).returncode == 1
    picture(path / "b" / "new\nline.png", 103)
    assert made(tmp_path, path).returncode == 0
    data = images.read(tmp_path / "out" / "images.h5", ["train", "select", "test"])
    assert sorted(data.images[:, 0, 0, 0].tolist()) == [*range(6), *range(100, 106)]


def disk(where: Path, size: str) -> Path | None:
    """A small disk of its own, where this process may have one."""
    where.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], capture_output=True)
    return where if mounted.returncode == 0 else None


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    small = disk(tmp_path / "small", "1m")
    if small is None:
        pytest.skip("this process may not mount a small disk")
    try:
        job = made(small, source, size=512)
        assert job.returncode == 1 and len(job.stderr.splitlines()) == 1
        assert "images.h5" in job.stderr and "no space left" in job.stderr.lower()
        assert not list(small.rglob("*.h5"))
    finally:
        subprocess.run(["umount", small], check=True)
