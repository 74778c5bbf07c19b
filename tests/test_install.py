"""The wheel in an environment of its own, in an empty folder, without the clone."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from kills import BUILT_FROM, PARTS, ROOT, copy_project
from PIL import Image

EXPERIMENT = {
    "dataset": "photos",
    "network": {"kind": "unet", "channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "groups": 4},
    "process": {"kind": "edm"},
    "train": {"checkpoints": [1], "batch": 64},
    "sample": {"samplers": {"euler": {"kind": "euler", "steps": 2}}},
}


# What macOS lacks of Linux; Python runs this before anything else.
LIKE_MACOS = """
import mmap, os, resource, socket
for name in ("sched_getaffinity", "memfd_create", "pidfd_open", "posix_fadvise", "posix_fallocate", "O_TMPFILE",
             "RWF_NOWAIT", "POSIX_FADV_SEQUENTIAL", "POSIX_FADV_WILLNEED"):
    delattr(os, name)
del mmap.MADV_HUGEPAGE, socket.SO_PEERCRED
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    project = copy_project(folder / "project")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, project / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(project)], check=True)
    shutil.rmtree(project)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fresh environment that holds the wheel, and sees the packages that it needs where these tests see them."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, str(wheel)], check=True)
    (site,) = folder.glob("lib/*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))  # whose own .pth files, the clone's, go unread
    return folder / "bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder, beside one of photos."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def run(bin_folder: Path, folder: Path, *arguments: str, **variables: str) -> str:
    """What `diffprobe ARGUMENTS` prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    environment["PATH"] = f"{bin_folder}:/usr/bin:/bin"
    process = subprocess.run(
        ["diffprobe", *arguments], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


def test_the_wheel_holds_the_whole_workflow(wheel: Path) -> None:
    paths = [path for part in PARTS if part != "src" for path in [ROOT / part, *(ROOT / part).rglob("*")]]
    ours = {str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts}
    held = zipfile.ZipFile(wheel).namelist()
    assert {name.removeprefix("diffprobe/project/") for name in held if "/project/" in name} == ours
    assert "diffprobe/py.typed" in held


def test_images_in_an_empty_folder(bin_folder: Path, empty: Path) -> None:
    said = run(bin_folder, empty, "run", "../photos", "-n")
    assert "pretrain" in said and "dry-run" in said
    assert [path.name for path in empty.iterdir() if path.name != ".snakemake"] == ["config"]
    run(bin_folder, empty, "run", "../photos", "--cores", "1", "--", "--until", "images", "--quiet")
    receipt = json.loads((empty / "results/photos/data/photos/images.receipt.json").read_text())
    assert {"workflow/scripts/images.py", "src/diffprobe/data/images.py"} <= set(receipt["code"])  # as in a clone


def test_jobs_run_without_what_only_linux_has(bin_folder: Path, empty: Path) -> None:
    (empty.parent / "sitecustomize.py").write_text(LIKE_MACOS)
    config = {
        "datasets": {"photos": {"source": {"kind": "folder", "path": str(empty.parent / "photos")}, "size": 8}},
        "experiments": {"small": EXPERIMENT},
    }
    (empty / "small.yaml").write_text(yaml.safe_dump(config))
    run(bin_folder, empty, "run", "small.yaml", "--", "--until", "pretrain", PYTHONPATH=str(empty.parent))
    receipt = json.loads((empty / "results/runs/small/checkpoints/1/receipt.json").read_text())
    assert receipt["images"] >= 1000 and 50 < receipt["peak_memory_mib"] < 20_000


def test_commands_know_the_configs_that_came_along(bin_folder: Path, empty: Path) -> None:
    where = Path(run(bin_folder, empty, "where").strip())
    assert where.is_relative_to(bin_folder.parent) and (where / "Snakefile").exists()
    assert run(bin_folder, empty, "--version").startswith("diffprobe ")
    (described,) = json.loads(run(bin_folder, empty, "describe", "digits_dit", "--json"))
    assert described["experiment"] == "digits_dit"
    assert not list(empty.iterdir())
