"""Leases of GPUs: all that a job asked for or none, by no two jobs at once, whoever is killed."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.gpus import GPU, local_gpus, visible_gpus
from diffprobe.runtime.leases import MEMBERS, lease_gpus

JOB = """
import os, sys, time
from diffprobe.runtime.gpus import visible_gpus
from diffprobe.runtime.leases import MEMBERS, lease_gpus
say = lambda line: print(line, flush=True)
held = lease_gpus(visible_gpus(), int(sys.argv[1]), sys.argv[2], say)
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.readline()
"""
MEMBER = """
import os, sys
from diffprobe.runtime.leases import MEMBERS, join
held = join(os.environ[MEMBERS])
print("joined", flush=True)
sys.stdin.readline()
"""


class Machine:
    """Two devices, and jobs that lease them, each a process of its own."""

    def __init__(self, leases: Path) -> None:
        self.environment = os.environ | {"DIFFPROBE_LEASES": str(leases), "DIFFPROBE_GPUS": "a,b"}
        self.environment.pop("CUDA_VISIBLE_DEVICES", None)
        self.jobs: list[subprocess.Popen] = []

    def start(self, code: str, *arguments: str, **environment: str) -> subprocess.Popen:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", code, *arguments]
        self.jobs.append(subprocess.Popen(command, env=self.environment | environment, **pipes))
        return self.jobs[-1]

    def job(self, count: int, name: str, **environment: str) -> subprocess.Popen:
        return self.start(JOB, str(count), name, **environment)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for job in machine.jobs:
        job.kill()
        job.communicate()


def line(job: subprocess.Popen) -> str:
    return job.stdout.readline().strip()


def end(job: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    job.send_signal(number)
    job.wait()


def test_jobs_have_all_their_devices_or_wait_and_say_for_whom(machine: Machine) -> None:
    first = machine.job(1, "first")
    assert (line(first), line(first)) == ("computes on a", "a")
    pairs = [machine.job(2, f"pair{i}") for i in range(2)]
    for pair in pairs:
        said = line(pair)
        assert said.startswith(f"waits for 2 free GPUs (a: process {first.pid}@") and said.endswith(" first)")
    single = machine.job(1, "single")  # neither pair has taken one device to wait for the other
    assert line(single) == "computes on b" and line(single) == "b"
    end(first)
    end(single)
    while pairs:  # one after the other, since each needs both
        (output, *_), _, _ = select.select([pair.stdout for pair in pairs], [], [])
        had = next(pair for pair in pairs if pair.stdout is output)
        assert (line(had), line(had)) == ("computes on a,b", "a,b")
        pairs.remove(had)
        assert not select.select([pair.stdout for pair in pairs], [], [], 1.2)[0]  # the other waits on
        end(had)


def test_a_lease_lasts_as_long_as_any_process_of_its_job(machine: Machine) -> None:
    lead = machine.job(2, "lead")
    assert (line(lead), line(lead)) == ("computes on a,b", "a,b")
    owner = (Path(machine.environment["DIFFPROBE_LEASES"]) / "a.lock").read_text()
    members = [machine.start(MEMBER, **{MEMBERS: f"a,b {owner}"}) for _ in range(2)]
    assert [line(member) for member in members] == ["joined", "joined"]
    end(lead)
    end(members[0])
    other = machine.job(1, "other")
    assert line(other).startswith("waits for 1 free GPU (a: process ")
    end(members[1])
    assert line(other) == "computes on a"
    late = machine.start(MEMBER, **{MEMBERS: f"a,b {owner}"})  # of a job whose devices are another's by now
    assert "the device has passed to process" in late.communicate("")[1]


def test_a_job_sees_only_the_devices_that_it_was_shown(machine: Machine) -> None:
    shown = machine.job(1, "shown", CUDA_VISIBLE_DEVICES="b")
    assert (line(shown), line(shown)) == ("computes on b", "b")
    both = machine.job(2, "both", CUDA_VISIBLE_DEVICES="b")
    assert "needs 2 GPUs, here are 1 (b); lower train.devices" in both.communicate()[1]


def test_what_is_stated_is_counted_and_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("DIFFPROBE_GPUS", "0, 1,GPU-3")
    assert local_gpus(tmp_path) == 3 and visible_gpus() == [GPU(name, name) for name in ("0", "1", "GPU-3")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3,-1,0")  # CUDA reads no further than a number that is none
    assert local_gpus(tmp_path) == 1
    for wrong in ("0,0", "0,,1", "../x"):
        monkeypatch.setenv("DIFFPROBE_GPUS", wrong)
        with pytest.raises(UserError, match="expected different names of devices"):
            local_gpus(tmp_path)


def test_files_of_devices_are_counted_as_far_as_they_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DIFFPROBE_GPUS", raising=False)
    for number in range(4):
        (tmp_path / f"nvidia{number}").touch()
    for shown, count in (("2,3", 2), ("", 0), ("-1", 0), ("0,1,2,3,4", 4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert local_gpus(tmp_path) == count


def test_devices_keep_the_names_that_the_system_gave_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a cluster's job: leased by UUID, but shown by the number in the job's own list."""
    monkeypatch.setenv("DIFFPROBE_LEASES", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv(MEMBERS, raising=False)
    lines: list[str] = []
    first = lease_gpus([GPU("UUID-x", "4"), GPU("UUID-y", "7")], 1, "first", lines.append)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    second = lease_gpus([GPU("UUID-x", "4"), GPU("UUID-y", "7")], 1, "second", lines.append)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7" and lines == ["computes on UUID-x", "computes on UUID-y"]
    monkeypatch.delenv(MEMBERS)
    for descriptor in (*first, *second):
        os.close(descriptor)
