"""Locks end with their owners, however those end, and nobody who looks at one takes it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffprobe.runtime import locks
from diffprobe.runtime.locks import try_lock

OWNER = """
import subprocess, sys, time
from diffprobe.runtime.locks import try_lock
held = try_lock(sys.argv[1])
child = subprocess.Popen(["sleep", "5"], close_fds=False)  # a child does not inherit it
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_dies_with_its_owner(tmp_path: Path, ending: signal.Signals) -> None:
    path = tmp_path / "lock"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, path], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    assert try_lock(path) is None
    assert path.read_text().startswith(f"{owner.pid}@")
    owner.send_signal(ending)
    owner.wait()
    descriptor = try_lock(path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_lock_that_others_look_at_can_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.open(tmp_path / "lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: os.close(look))
    descriptor = try_lock(tmp_path / "lock")
    assert descriptor is not None and locks.held(tmp_path / "lock")
    os.close(descriptor)


def test_a_lock_whose_owner_cannot_be_written_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        try_lock(tmp_path / "lock")
    assert not locks.held(tmp_path / "lock")
