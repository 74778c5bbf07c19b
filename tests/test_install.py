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
from kills import PARTS, ROOT, copy_project
from PIL import Image

BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


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


def run(bin_folder: Path, folder: Path, *arguments: str) -> str:
    """What `diffprobe ARGUMENTS` prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
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


def test_commands_know_the_configs_that_came_along(bin_folder: Path, empty: Path) -> None:
    where = Path(run(bin_folder, empty, "where").strip())
    assert where.is_relative_to(bin_folder.parent) and (where / "Snakefile").exists()
    assert run(bin_folder, empty, "--version").startswith("diffprobe ")
    (described,) = json.loads(run(bin_folder, empty, "describe", "digits_dit", "--json"))
    assert described["experiment"] == "digits_dit"
    assert not list(empty.iterdir())
