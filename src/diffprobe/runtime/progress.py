"""How far a job is: a status line for people, a small JSON file for `diffprobe status`."""

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO, TypedDict

from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import recorded, write_json
from diffprobe.runtime.locks import held, try_lock

FILE_SECONDS = 1.0  # between updates of progress.json
LOG_SECONDS = 5.0  # between status lines in the log
SETTLED_SECONDS = 20.0  # after which a job of some length looks up what its device could do
SILENT_SECONDS = 600  # after which a job on another machine counts as dead


class Snapshot(TypedDict):
    """The content of a progress file."""

    job: str
    state: str  # running, done, stopped or failed; `read` adds killed
    done: int
    total: int
    unit: str
    rate: float  # units per second
    seconds_left: float | None
    note: str
    log: str
    pid: int
    host: str
    started: float  # Unix time, as `updated`
    updated: float


def clock(seconds: float) -> str:
    """Seconds as 3s, 2m05s or 1h02m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Console:
    """The terminal, for one job at a time: the first that takes the slot shows its status line, others only log."""

    def __init__(self, slot: Path) -> None:
        self.path, self.slot = slot, self.take(slot)
        self.live = sys.stderr.isatty()

    @staticmethod
    def take(slot: Path) -> int | None:
        with suppress(OSError, UserError):  # the disk may be full
            return try_lock(slot)
        return None

    def show(self, line: str) -> None:
        if self.slot is None:
            self.slot = self.take(self.path)  # the job that held it may have ended
        if self.slot is not None:
            self.write(f"\r\x1b[K{line}" if self.live else f"{line}\n")

    @staticmethod
    def write(text: str) -> None:
        with suppress(OSError):  # the terminal may be gone
            print(text, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.slot is not None:
            if self.live:
                self.write("\r\x1b[K")
            os.close(self.slot)
            self.slot = None


class Progress:
    """Counts one job's finished units of work, with their rate and the time left."""

    def __init__(self, path: Path, name: str, log: TextIO, console: Console) -> None:
        self.path, self.name, self.log, self.console = path, name, log, console
        self.started = time.time()
        self.total, self.unit, self.done, self.first = 0, "", 0, 0
        self.counting_since = self.started
        self.compared: tuple[Callable[[], float], Callable[[], float]] | None = None
        self.limit = 0.0  # units per second at the device's peak; 0: unknown
        self.next_file = self.next_line = 0.0
        self.write("running")

    def start(self, total: int, unit: str, done: int = 0) -> None:
        """Begin to count to `total` units; `done` of them are an earlier job's and do not count for the rate."""
        self.total, self.unit, self.done, self.first = total, unit, done, done
        self.counting_since = time.time()

    def compare(self, flops: Callable[[], float], peak: Callable[[], float]) -> None:
        """Report the model FLOPs utilisation too, from the FLOPs of a unit (0: unknown) and the device's per second.

        Both are called once, in jobs of more than `SETTLED_SECONDS`, since counting and measuring take a second.
        """
        self.compared = flops, peak

    def update(self, done: int, note: str = "") -> None:
        """Report `done` units in all; cheap enough for every step."""
        self.done, now = done, time.time()
        # A file that changes at every step would cost more than the step, on a network's disk above all.
        if now >= self.next_file:
            self.next_file = now + FILE_SECONDS
            self.write("running", note)
            if self.console.live:
                self.console.show(self.line(note))
        if now >= self.next_line:
            self.next_line = now + LOG_SECONDS
            if self.compared and now > self.counting_since + SETTLED_SECONDS:
                flops, peak = (measure() for measure in self.compared)
                self.limit, self.compared = peak / flops if flops else 0.0, None
            print(self.line(note), file=self.log, flush=True)
            if not self.console.live:
                self.console.show(self.line(note))

    @property
    def rate(self) -> float:
        """Units per second since this job began to count."""
        return (self.done - self.first) / max(time.time() - self.counting_since, 1e-9)

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation (Chowdhery et al., PaLM, 2022, appendix B): the share of the device's peak."""
        return self.rate / self.limit if self.limit else None

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def line(self, note: str = "") -> str:
        left = "" if self.seconds_left is None else f"  left {clock(self.seconds_left)}"
        share = self.done / max(self.total, 1)
        used = "" if self.mfu is None else f"  mfu {self.mfu:.0%}"
        counts = f"{self.done:,}/{self.total:,} {self.unit} {share:4.0%}"
        return f"{self.name}  {counts}  {self.rate:,.0f} {self.unit}/s{used}{left}  {note}".rstrip()

    def write(self, state: str, note: str = "") -> None:
        """Update the progress file, where that is possible: a job must not end for it, nor name it as the cause."""
        snapshot: Snapshot = {
            "job": self.name,
            "state": state,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": self.rate,
            "seconds_left": self.seconds_left if state == "running" else None,
            "note": note,
            "log": self.log.name,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": self.started,
            "updated": time.time(),
        }
        with suppress(OSError):
            write_json(self.path, snapshot, durable=False)  # of no use after a loss of power


def alive(snapshot: Snapshot) -> bool:
    """Whether the process of a progress file still runs: by its lock and id here, by its last update elsewhere."""
    if snapshot["host"] != socket.gethostname():
        return time.time() - snapshot["updated"] < SILENT_SECONDS
    lock = Path(snapshot["log"]).with_suffix(".lock")
    if lock.exists() and not held(lock):  # a job holds its lock for life; its process id may be another's by now
        return False
    try:
        os.kill(snapshot["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        return True
    return True


def read(path: Path) -> Snapshot | None:
    """A progress file, its state `killed` where the process has vanished; None without a whole file."""
    snapshot: Snapshot | None = recorded(path)
    if not isinstance(snapshot, dict) or not Snapshot.__annotations__.keys() <= snapshot.keys():
        return None
    if snapshot["state"] == "running" and not alive(snapshot):
        snapshot["state"] = "killed"
    return snapshot
