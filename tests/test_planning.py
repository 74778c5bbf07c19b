"""A dry run of all recipes at once, each by itself; `make bench` has its time."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffprobe.config.load import load
from diffprobe.plan.graph import stages
from diffprobe.planning import recipes


def test_all_recipes_are_planned_in_one_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among them recipes that call different experiments and datasets by one name."""
    for name in ("imported/DiT-XL-2-256x256.safetensors", "LITE0"):  # weights must be there, images need not
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    command = [sys.executable, "-m", "diffprobe", "plan"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    *lines, last = ran.stdout.splitlines()
    jobs = {name: int(count.replace(",", "")) for name, count in map(str.split, lines)}
    assert list(jobs) == [path.stem for path in recipes()] and {"ddae", "soda", "dit_gta", "board_dit"} <= set(jobs)
    for name in ("CELEBAHQ", "CIFAR10_ZIP", "IMAGENET", "LITE0"):
        monkeypatch.setenv(name, name)
    assert jobs == {path.stem: len(stages(load(path))) for path in recipes()}
    assert last.split() == [f"{sum(jobs.values()):,}", "jobs", "of", str(len(jobs)), "configs"]
