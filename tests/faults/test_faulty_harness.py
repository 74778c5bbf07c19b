"""The harness itself: each fault that it must detect, planted."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Sandbox, bounded, changes, complaints, restore, tree

CLEAR = "photos.zip: damaged; download it again"


def says(text: str, status: int = 1) -> Callable[[], None]:
    def action() -> None:
        print(text, file=sys.stderr)
        sys.exit(status)

    return action


def raises() -> None:
    raise KeyError("labels")


FAULTS = {
    "exit status 0": says(CLEAR, 0),
    "crashed: KeyError: 'labels'": raises,
    "2 lines instead of one": says(CLEAR + "\n" + CLEAR),
    "0 lines instead of one": says(""),
    "does not name photos.zip": says("damaged; download it again"),
    "no remedy": says("photos.zip: damaged"),
    "Python's own words: ValueError": says("photos.zip: damaged (ValueError('x')); download it again"),
    "Python's own words: has no attribute": says("photos.zip: 'list' has no attribute 'get'; download it again"),
    "not printable": says("photos.zip: \x1b[2Jdamaged; download it again"),
    "characters": says(f"photos.zip: {'x' * 1000}; download it again"),
    "MiB of memory": lambda: (bytearray(1500 << 20), says(CLEAR)()),
    "crashed: MemoryError": lambda: bytearray(9 << 30),
    "crashed: ended by Alarm clock": lambda: time.sleep(60),
}


def test_a_clear_line_passes(tmp_path: Path) -> None:
    assert complaints(bounded(says(CLEAR), tmp_path), "photos.zip") == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_detected(tmp_path: Path, fault: str) -> None:
    outcome = bounded(FAULTS[fault], tmp_path, seconds=2 if "Alarm" in fault else 40)
    assert any(line.startswith(fault) or fault in line for line in complaints(outcome, "photos.zip"))


def replaced(path: Path) -> None:
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text)


MEDDLING = {
    "written work/new.txt": lambda place: (place / "work/new.txt").touch(),
    "lost outside/precious.txt": lambda place: (place / "outside/precious.txt").unlink(),
    "touched outside/precious.txt": lambda place: replaced(place / "outside/precious.txt"),
    "touched work/mine.txt": lambda place: (place / "work/mine.txt").touch(),
    "written home/.cache": lambda place: (place / "home/.cache").mkdir(),
    "written work/link": lambda place: (place / "work/link").symlink_to("/etc"),
}


@pytest.mark.parametrize("change", MEDDLING)
def test_whatever_is_written_lost_or_touched_is_detected(tmp_path: Path, change: str) -> None:
    sandbox, action = Sandbox(tmp_path), MEDDLING[change]
    with pytest.raises(AssertionError, match=change), sandbox.unchanged():
        sandbox.call(lambda: action(tmp_path))


def test_a_copy_is_restored(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Sandbox(tmp_path / name)
    restore(tmp_path / "a", tmp_path / "b")
    before = tree(tmp_path / "b")
    for action in MEDDLING.values():
        action(tmp_path / "b")
        restore(tmp_path / "a", tmp_path / "b")
        after = tree(tmp_path / "b")
        assert all(before[name][:-1] == after[name][:-1] for name in before.keys() | after.keys())
    assert not changes(tree(tmp_path / "a"), tree(tmp_path / "a"))
