"""Measures a row: agreement first, then its sides in turns (A B A B), each in a process of its own, then the slope."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.row import ROOT, Line, Row, load

Record = dict[str, Any]
Times = dict[str, float]  # work, wall and CPU seconds of a piece
Say = Callable[[str], object]


class SideProcess:
    """A side in its own process, idle until it is told to go."""

    def __init__(self, name: str, side: str, amount: int, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.side", name, side, str(amount), str(folder)]
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
        self.what = f"{name}, {side}"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True
        )

    def go(self) -> Times:
        return self.ask("go")

    def end(self) -> Record:
        return self.ask("end")

    def ask(self, line: str) -> Record:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.answer())

    def answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.what}: ended with status {self.process.wait()}; its error is above")
        return line

    def __enter__(self) -> "SideProcess":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        if self.process.wait():
            raise SystemExit(f"{self.what}: ended with status {self.process.returncode}; its error is above")
        self.process.stdout.close()


def measure(name: str, rounds: int | None, say: Say) -> Iterator[Record]:
    """A record for each line of the row."""
    row = load(name)
    with scratch() as folder:
        with SideProcess(name, "check", row.amount, folder) as process:
            agreements = json.loads(process.answer())
        for each in agreements:
            say(f"{name}: {each['what']} differ by {each['difference']:.1e} (at most {each['tolerance']:.0e})")
            if not each["difference"] <= each["tolerance"]:  # a NaN is no agreement either
                raise SystemExit(f"{name}: {each['what']} do not agree, so no time would mean anything")
        if row.prepare:
            with SideProcess(name, "prepare", row.amount, folder):
                pass
        times, peaks = in_turns(name, row, rounds or row.rounds, folder, say)
        slope = tenfold(name, row, folder) if row.slope else None
    for line in row.lines:
        yield {
            "row": name,
            **figure(line, times),
            "unit": row.unit,
            "sides": {side: summary(times[side]) | peaks[side] for side in sides_of(line)},
            "agreement": agreements,
            "slope": slope if line is row.lines[0] else None,
        }


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of results, since a temporary one may lie in memory."""
    (ROOT / "results").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "results", prefix="bench_") as folder:
        yield Path(folder)


def in_turns(
    name: str, row: Row, rounds: int, folder: Path, say: Say
) -> tuple[dict[str, list[Times]], dict[str, Record]]:
    """The pieces of every side, and its memory. All sides are ready before the first piece."""
    times: dict[str, list[Times]] = {side: [] for side in row.sides}
    peaks: dict[str, Record] = {side: {} for side in row.sides}

    def note(side: str, process: SideProcess, counted: bool = True) -> None:
        piece = process.go()
        if counted:
            times[side].append(piece)
            say(f"{name}: {side} {piece['wall']:.2f} s, {piece['cpu']:.2f} CPU s, {piece['work'] / piece['wall']:.4g}")

    with ExitStack() as stack:
        start = lambda side: stack.enter_context(SideProcess(name, side, row.amount, folder))  # noqa: E731
        waiting = {} if row.fresh else {side: start(side) for side in row.sides}
        if row.warm:
            for side, process in waiting.items():
                note(side, process, counted=False)
        for _ in range(rounds):
            for side in row.sides:
                if row.fresh:
                    with SideProcess(name, side, row.amount, folder) as process:
                        note(side, process)
                        peaks[side] = process.end()
                else:
                    note(side, waiting[side])
        for side, process in waiting.items():
            peaks[side] = process.end()
    return times, peaks


def tenfold(name: str, row: Row, folder: Path) -> Record:
    """Our side at two amounts of work, each in a new process: the time of the larger by that of the smaller, for a
    unit of work, and the memory that it takes more.
    """
    assert row.slope
    side, seconds, peaks = row.lines[0].ours, [], []
    whose = "children_mib" if row.lines[0].figure == "seconds" else "peak_mib"
    for amount in (row.slope.small, row.slope.large):
        with SideProcess(name, side, amount, folder) as process:
            if row.warm:
                process.go()
            seconds.append(process.go()["cpu"])
            peaks.append(process.end()[whose])
    times = row.slope.large / row.slope.small
    return {
        "of": f"{row.slope.small:,} to {row.slope.large:,} {row.slope.unit}",
        "time": seconds[1] / seconds[0],
        "work": times,
        "memory_mib": peaks[1] - peaks[0],
    }


def sides_of(line: Line) -> list[str]:
    return [line.ours] if line.figure == "seconds" else [line.plain, line.ours]


def figure(line: Line, times: dict[str, list[Times]]) -> Record:
    """The line's value by the medians, and its range over the rounds."""
    clock = "wall" if line.figure == "ratio" else "cpu"
    ours = [piece[clock] / piece["work"] for piece in times[line.ours]]
    if line.figure == "seconds":
        value, each = statistics.median(ours), ours
    else:
        plain = [piece[clock] / piece["work"] for piece in times[line.plain]]
        slower = [a / b for a, b in zip(ours, plain, strict=True)]
        middle = statistics.median(ours) / statistics.median(plain)
        if line.figure == "ratio":
            value, each = line.factor / middle, [line.factor / one for one in slower]
        else:
            value, each = 100 * (middle - 1), [100 * (one - 1) for one in slower]
    about = {"value_cpu": cpu_ratio(line, times)} if line.figure == "ratio" else {}
    about |= {"job": line.job, "figure": line.figure, "must": line.must, "go": line.go, "remark": line.remark}
    return about | {"ours": line.ours, "plain": line.plain, "value": value, "range": [min(each), max(each)]}


def cpu_ratio(line: Line, times: dict[str, list[Times]]) -> float:
    """The ratio in CPU time, which other work on the machine disturbs less."""
    plain, ours = (
        statistics.median(one["cpu"] / one["work"] for one in times[side]) for side in (line.plain, line.ours)
    )
    return line.factor * plain / ours


def summary(pieces: list[Times]) -> Record:
    """Work per wall second: median, lowest, highest; and every piece."""
    rates = [piece["work"] / piece["wall"] for piece in pieces]
    middle = {"rate": statistics.median(rates), "rates": [min(rates), max(rates)]}
    return middle | {"cpu_seconds": statistics.median(piece["cpu"] for piece in pieces), "pieces": pieces}
