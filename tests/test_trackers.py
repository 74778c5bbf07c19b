"""Trackers see every row of a training once, over stops and slices, and can stop no training."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_workflow import TINY

from diffprobe.config.load import parse
from diffprobe.config.trackers import Tracker
from diffprobe.runtime.errors import UserError
from diffprobe.training.trackers import Tracking, trackings

# Stands for trackio, whose release of today wants an older pillow than ours: the interface that it shares with wandb.
MODULE = """
calls = []
fails = set()

def init(**arguments):
    calls.append(("init", arguments))
    if "init" in fails: raise ConnectionError("no network\\nat all")

def log(values, step):
    if "log" in fails: raise RuntimeError("full")
    calls.append(("log", step, values))

def finish():
    calls.append(("finish",))
"""
KINDS = [{"kind": "trackio", "project": "mine"}]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the name trackio."""
    (tmp_path / "trackio.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    import trackio  # type: ignore[import-not-found]

    yield trackio
    del sys.modules["trackio"]


def rows(last: int) -> list[dict[str, float]]:
    """A history with a row for every ten steps."""
    return [{"step": step, "images": 64 * step, "loss": 1 / step} for step in range(10, last + 1, 10)]


def train(folder: Path, *reached: int, said: list[str], identity: str = "i" * 64, killed: bool = False) -> None:
    """A job that renews its history at these steps, from the beginning of the run on as `run_slice` does."""
    sinks = trackings(list(map(Tracker.member, KINDS)), "net", folder, identity, {"lr": 1}, said.append)
    for step in reached:
        for sink in sinks:
            sink.write(rows(step))
    for sink in [] if killed else sinks:
        sink.finish()


def steps(service: Any) -> list[int]:
    return [call[1] for call in service.calls if call[0] == "log"]


def test_every_row_is_written_once_to_one_run(service: Any, tmp_path: Path) -> None:
    said: list[str] = []
    train(tmp_path, 10, 30, said=said, killed=True)
    train(tmp_path, 10, 20, 60, said=said)  # from an earlier autosave, so that rows come again
    train(tmp_path, 60, 90, said=said)
    assert steps(service) == list(range(10, 100, 10)) and said == []
    begun = [call[1] for call in service.calls if call[0] == "init"]
    assert begun == [{"project": "mine", "name": "net-iiiiiiii", "resume": "allow", "config": {"lr": 1}}] * 3
    assert service.calls[-2:] == [("log", 90, {"train/images": 5760, "train/loss": 1 / 90}), ("finish",)]
    train(tmp_path, 10, said=said, identity="j" * 64)  # another config: another run, from its first row
    assert steps(service)[-1] == 10 and service.calls[-3][1]["name"] == "net-jjjjjjjj"


@pytest.mark.parametrize("what", ["init", "log"])
def test_one_that_fails_is_named_once_and_gets_later_what_it_missed(service: Any, tmp_path: Path, what: str) -> None:
    service.fails.add(what)
    said: list[str] = []
    train(tmp_path, 10, 20, 30, said=said)
    assert len(said) == 1 and said[0].startswith("trackio fails (") and "\n" not in said[0]
    assert said[0].endswith("); the training goes on without it") and steps(service) == []
    service.fails.clear()
    train(tmp_path, 40, said=said)
    assert steps(service) == [10, 20, 30, 40] and len(said) == 1


def test_wandb_is_told_which_run_goes_on(tmp_path: Path) -> None:
    settings = Tracker.member({"kind": "wandb"})
    expected = {"project": "diffprobe", "name": "net-1", "id": "net-1", "resume": "allow", "dir": str(tmp_path)}
    assert settings.arguments("net-1", tmp_path) == expected


def test_a_missing_package_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffprobe.training.trackers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"state.trackers: the package wandb is missing; pip install wandb, or leave"):
        Tracking(Tracker.member({"kind": "wandb"}), "net", tmp_path, {}, print)


def test_the_config_names_them_and_none_is_the_default() -> None:
    assert parse(TINY).state.trackers == []
    written = parse(TINY | {"state": {"trackers": KINDS}}).state.model_dump(mode="json")["trackers"]
    assert json.loads(json.dumps(written)) == KINDS
    with pytest.raises(UserError, match=r"state.trackers.*other.*trackio"):
        parse(TINY | {"state": {"trackers": [{"kind": "other"}]}})
