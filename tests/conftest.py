"""Tests share two cores with the jobs that they start. The files that take minutes begin first."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_latents import copy, original, pictures  # noqa: F401 (fixtures)
from toy_probing import digits_store, untrained  # noqa: F401 (fixtures)
from toy_workflow import finished, project  # noqa: F401 (fixtures)

from diffprobe.config.models import Config
from diffprobe.reporting import describe, network_cost

torch.set_num_threads(1)

# The user's caches are neither read nor written; one folder serves all workers and the commands that they start.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="diffprobe-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Where bytecode is not kept, each of a thousand processes compiles our modules again: a tenth of a second each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Under nohup or in a shell's background they are ignored, and processes that tests start and stop inherit that.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

LONG = ("test_workflow.py", "test_workflow_alone.py", "test_reruns.py", "test_probing.py", "test_world.py")
LONG += ("test_plugins.py", "test_preload.py", "test_module.py", "test_latents.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By file, whose tests stay together: with `--no-loadscope-reorder` workers take them in this order.

    While one makes the finished project, the other has a file that does not wait for it.
    """
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Config, str], dict[str, Any]]:
    """What `describe` tells of an experiment, without the price of each tap, which takes ten seconds."""
    monkeypatch.setattr(network_cost, "tap_costs", lambda *_: [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # or the user's cache would remember networks without taps
    return lambda config, name: describe.description(config, name)
