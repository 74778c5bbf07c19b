"""Locks of Snakemake that die with their process, and are removed by no other."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.persistence.file import FilePersistence

from diffprobe.runtime import snakemake_locks

ANOTHER = """
import sys, types
from diffprobe.runtime import snakemake_locks
from snakemake.persistence.file import FilePersistence

snakemake_locks.replace(FilePersistence)
own = types.SimpleNamespace(_lockdir=".snakemake/locks", _lockfile={})
for kind in ("input", "output"):
    FilePersistence._write_locks(own, kind, [f"{kind} of another"])
print("written", flush=True)
input()
FilePersistence._delete_locks(own)
"""


def start() -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", ANOTHER], **pipes, env=os.environ)
    assert process.stdout.readline() == b"written\n"
    return process


def test_each_run_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(".snakemake/locks")
    folder.mkdir(parents=True)

    class Own(FilePersistence):
        """A class of its own to be changed."""

    snakemake_locks.replace(Own)
    snakemake_locks.replace(Own)
    own = SimpleNamespace(_lockdir=str(folder), _lockfile={})

    def held() -> set[tuple[str, str]]:
        return set(Own._read_locks(own))

    another = start()
    of_another = {("input", "input of another"), ("output", "output of another")}
    assert held() == of_another
    assert f"process {another.pid}@" in snakemake_locks.refusal()
    Own._write_locks(own, "input", [])
    Own._write_locks(own, "output", ["a", "b c"])
    assert held() == of_another | {("output", "a"), ("output", "b c")}
    Own._delete_locks(own)
    assert held() == of_another  # it goes on
    another.communicate(b"\n")
    assert another.returncode == 0 and not list(folder.iterdir())
    killed, another = start(), start()
    killed.kill()
    killed.wait()
    assert held() == of_another and capsys.readouterr().err.count("The last run was killed") == 1
    assert f"process {another.pid}@" in snakemake_locks.refusal()  # not of the one that was killed
    another.kill()
    another.wait()
    (folder / "7.output.lock").write_text("of a workflow that is not ours\n")
    assert held() == {("output", "of a workflow that is not ours")}
    assert "if none runs here, remove .snakemake/locks" in snakemake_locks.refusal()
    Own.cleanup_locks(own)  # as by --unlock
    assert not folder.exists()
