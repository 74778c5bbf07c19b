"""Six jobs of a real run on two stated devices, killed in every way: no device is ever two jobs'."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from kills import run
from toy_workflow import TINY, project_with

DEVICES = ("a", "b")
PAIRS, SINGLES = ("pair0", "pair1"), ("d0", "d1", "d2", "d3")  # trainings on two devices, baselines on one


def config() -> dict:
    tiny = TINY["experiments"]["tiny"]
    trained = {"checkpoints": [2], "batch": 64, "devices": 2}
    experiment = {key: tiny[key] for key in ("network", "process", "sample")} | {"dataset": "d0", "train": trained}
    return {
        "results": "results",
        "datasets": {name: {"source": {"kind": "digits"}, "per_class": 60} for name in SINGLES},
        "experiments": dict.fromkeys(PAIRS, experiment),
        "state": {"autosave_seconds": 0.2},
        "threads": {"train": 1},
    }


def job_of(pid: int) -> str | None:
    """Which job a process works for: by its command line or, of one that was forked from a server, by its open log."""
    with suppress(OSError, psutil.NoSuchProcess):
        places = [*psutil.Process(pid).cmdline(), *map(os.readlink, Path(f"/proc/{pid}/fd").iterdir())]
        for place in places:
            if match := re.search(r"results/logs/(\w+/\w+)(\.\d+)*\.log", place):
                return match[1]
    return None


class Watch(threading.Thread):
    """Looks at the system's locks again and again: who holds which device."""

    def __init__(self, leases: Path) -> None:
        super().__init__(daemon=True)
        self.leases, self.over = leases, False
        self.now: dict[str, set[int]] = {}
        self.seen: set[tuple[str, str]] = set()  # of job and device
        self.shared: list[str] = []

    def run(self) -> None:
        while not self.over:
            self.look()
            time.sleep(0.05)

    def look(self) -> None:
        names = {file.stat().st_ino: file.stem for file in self.leases.glob("*.lock") if file.stem in DEVICES}
        held: dict[str, set[int]] = {}
        for line in Path("/proc/locks").read_text().splitlines():
            kind, _, access, pid, place = line.replace("->", "").split()[1:6]
            # Exclusive for the moment of choosing only: then nobody else has it, or the look was a look.
            if kind == "FLOCK" and access == "READ" and (name := names.get(int(place.split(":")[2]))):
                held.setdefault(name, set()).add(int(pid))
        self.now = held
        for name, pids in held.items():
            jobs = {job for pid in pids if (job := job_of(pid))}
            self.seen |= {(job, name) for job in jobs}
            if len(jobs) > 1:
                self.shared.append(f"{name}: {jobs}")

    def wait_for(self, what: str) -> tuple[str, list[int]]:
        """A job of these, by a part of its name, and its processes that hold a device."""
        until = time.monotonic() + 300
        while time.monotonic() < until:
            for pids in list(self.now.values()):
                if (job := next(filter(None, map(job_of, pids)), "")) and what in job:
                    return job, sorted(pids)
            time.sleep(0.02)
        raise AssertionError(f"no job of {what} has had a device")


def test_six_jobs_on_two_devices_share_none_whatever_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = tmp_path / "leases"
    monkeypatch.setenv("DIFFPROBE_LEASES", str(leases))
    monkeypatch.setenv("DIFFPROBE_GPUS", ",".join(DEVICES))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    project = project_with(tmp_path / "project", config())
    stores = [f"results/data/{name}/images.h5" for name in SINGLES]
    assert run(project, *stores).returncode == 0
    targets = [f"results/data/{name}/baseline.json" for name in SINGLES]
    targets += [f"results/runs/{name}/checkpoints/2/receipt.json" for name in PAIRS]
    # More at once than there are devices, as two runs in two folders have.
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", "6", "--resources", "gpu=8"]
    watch = Watch(leases)
    watch.start()
    output = tmp_path / "output"
    with output.open("w") as file:
        main = subprocess.Popen(command, cwd=project, stdout=file, stderr=file)
        _, pids = watch.wait_for("baseline")
        os.kill(pids[0], signal.SIGKILL)
        _, pids = watch.wait_for("pretrain")
        with suppress(ProcessLookupError):
            os.kill(pids[-1], signal.SIGKILL)  # a child of torchrun, where it has begun
        watch.wait_for("pretrain")
        main.kill()  # its jobs live on
        main.wait()
        last = subprocess.run(command, cwd=project, stdout=file, stderr=file)
    watch.over = True
    watch.join()
    said = output.read_text()
    assert last.returncode == 0, said
    assert not watch.shared
    assert {job for job, _ in watch.seen} == {f"baseline/{name}" for name in SINGLES} | {f"pretrain/{n}" for n in PAIRS}
    assert all(("pretrain/" + pair, device) in watch.seen for pair in PAIRS for device in DEVICES)
    assert re.search(r"pretrain\.pair\d\.2: waits for 2 free GPUs \((a|b): process \d+@\S+ \S+", said)
    assert all((project / target).exists() for target in targets)
