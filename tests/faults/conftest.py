"""What the tests with hostile inputs share, and the count of those inputs."""

import importlib
import os
import pkgutil
import runpy
import shutil
from collections import Counter
from pathlib import Path

import harness
import huggingface_hub.constants
import mini
import pytest
from harness import SCRIPTS, Sandbox

import diffprobe
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.locks import exclusive

COUNT = "hostile inputs"


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Import all that commands and jobs import, once for all children of this process.

    What a job has loaded is part of its identity, so that a test which imports more must not change it.
    """
    for script in SCRIPTS.glob("*.py"):
        runpy.run_path(str(script))
    for module in pkgutil.walk_packages(diffprobe.__path__, "diffprobe."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    huggingface_hub.constants.HF_HUB_OFFLINE = True  # no test asks the network
    code_version()  # hashes every source file, and keeps the hashes


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, imported: None) -> Path:
    """A finished project, one for all of pytest's workers; tests damage copies of it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    project = folder / "mini"
    with exclusive(folder / "mini.lock", lambda owner: None):
        if not (folder / "mini.done").exists():
            shutil.rmtree(project, ignore_errors=True)
            mini.make(project)
            (folder / "mini.done").touch()
    return project


@pytest.fixture(scope="session")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of the command `measure`: a tiny classifier of colour images."""
    from diffprobe.config.built import parse_network
    from diffprobe.networks.build import build
    from diffprobe.training import checkpoints

    network, shape = {"kind": "classifier", "channels": 4}, {"image_channels": 3, "classes": 10}
    file = tmp_path_factory.mktemp("extractor") / "classifier.safetensors"
    weights = {"raw": build(parse_network(network), **shape).state_dict()}
    checkpoints.write(file, weights, {"network": network, "shape": shape})
    return ["--extractor", "classifier", f"weights={file}"]


@pytest.fixture
def sandbox(tmp_path: Path, request: pytest.FixtureRequest) -> "harness.Sandbox":
    """An empty sandbox; the inputs it refuses are counted."""
    sandbox = Sandbox(tmp_path)
    yield sandbox
    request.node.user_properties.append((COUNT, sandbox.inputs))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, number in (
                getattr(report, "user_properties", ()) if getattr(report, "when", "") == "teardown" else ()
            ):
                counts[Path(report.nodeid.split("::")[0]).stem.removeprefix("test_faulty_")] += number * (name == COUNT)
    for entrance, number in sorted(counts.items()):
        terminalreporter.write_line(f"{number:5} hostile inputs: {entrance}")
    terminalreporter.write_line(f"{counts.total():5} hostile inputs in all")
