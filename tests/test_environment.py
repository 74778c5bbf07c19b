"""The same versions are pinned in requirements.lock and envs/*.yaml, allowed by pyproject.toml, and installed here."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from kills import BUILT_FROM, PARTS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"]]
DEVELOPMENT = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_an_image_is_built_from_all_that_the_wheel_is_built_from() -> None:
    copied = {name for line in (ROOT / "Dockerfile").read_text().splitlines() for name in line.split()[1:-1]}
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {*PARTS, *BUILT_FROM, "requirements.lock"} == set(kept) <= copied


def pins(lines: list[str]) -> dict[str, str]:
    """The version of each package, by its normalised name; lines for other platforms are left out."""
    requirements = [Requirement(line) for line in lines]
    assert all(len(one.specifier) == 1 and str(one.specifier).startswith("==") for one in requirements)
    here = [one for one in requirements if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


def environment(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def pip_pins(path: Path) -> dict[str, str]:
    """The pip section of a conda environment."""
    (section,) = (entry["pip"] for entry in environment(path)["dependencies"] if isinstance(entry, dict))
    return pins(section)


@pytest.mark.parametrize("one", [*DIRECT, *DEVELOPMENT], ids=str)
def test_lock_holds_what_the_project_asks_for(one: Requirement) -> None:
    assert one.specifier.contains(locked()[canonicalize_name(one.name)])


def test_both_environments_are_there() -> None:
    assert [path.name for path in ENVIRONMENTS] == ["cpu.yaml", "cuda.yaml"]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_environment_pins_are_those_of_the_lock(path: Path) -> None:
    pinned = pip_pins(path)
    assert pinned == {name: locked()[name] for name in pinned}
    assert set(pinned) == {canonicalize_name(one.name) for one in DIRECT}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_environment_is_one_that_conda_reads(path: Path) -> None:
    spec = environment(path)
    assert spec["name"] == f"diffprobe-{path.stem}"
    assert spec["channels"] == ["conda-forge", "nodefaults"]
    assert {"python=3.11.*", "pip"} <= {entry for entry in spec["dependencies"] if isinstance(entry, str)}
    assert set(spec) <= {"name", "channels", "dependencies", "variables"}


def test_only_the_cpu_environment_hides_devices() -> None:
    hidden = {path.stem: environment(path).get("variables") for path in ENVIRONMENTS}
    assert hidden == {"cpu": {"CUDA_VISIBLE_DEVICES": "-1"}, "cuda": None}


def test_what_runs_here_is_what_is_locked() -> None:
    differing = {name: (installed(name), pin) for name, pin in locked().items() if installed(name) != pin}
    assert not differing, "installed and locked versions differ"


def installed(name: str) -> str | None:
    """Without a local build tag such as +cu130."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None
