"""One side of a row in a process of its own, so that its memory and its allocator's settings are its own.

    python -m benchmarks.side ROW SIDE AMOUNT FOLDER

Reads `go` lines from standard input; each is answered by a line of JSON on standard output: a piece's work, its wall
seconds, and the CPU seconds of all threads and child processes. `end` is answered with peak memory.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

from benchmarks.row import OURS, Setting, load


def main() -> None:
    name, side, amount, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    row = load(name)
    setting = Setting(int(amount), Path(folder))
    if side == "check":
        print(json.dumps([each._asdict() for each in row.check(False)]), file=answers)
        return
    if side == "prepare":
        assert row.prepare is not None
        row.prepare(setting)
        return
    if side.startswith(OURS):
        from diffprobe.runtime.allocator import keep_freed_memory

        keep_freed_memory()  # as every job and command of ours does
    before = memory("VmRSS")
    piece = row.sides[side](setting)
    for line in sys.stdin:
        if line.strip() == "end":
            children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest one's peak
            peaks = {"peak_mib": memory("VmHWM") - before, "imports_mib": before, "children_mib": children}
            print(json.dumps(peaks), file=answers)
            return
        wall, cpu = time.perf_counter(), cpu_seconds()
        work = piece()
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        print(json.dumps({"work": work, "wall": wall, "cpu": cpu}), file=answers)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def memory(field: str) -> float:
    """MiB of this process; not by getrusage, whose peak is that of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main()
