"""The facts without which a figure means nothing: processor, versions, date, commit."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.row import ROOT

PACKAGES = ("torch", "numpy", "snakemake", "zarr", "pytorch-fid")


def facts() -> dict[str, object]:
    import torch

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    values = dict(line.partition(":")[::2] for line in reversed(lines) if ":" in line)
    named = {key.strip(): value.strip() for key, value in values.items()}
    family = f"family {named['cpu family']}, model {named['model']}" if "cpu family" in named else platform.machine()
    return f"{named.get('model name', 'CPU')} ({family})"


def commit() -> str:
    """The commit, with a mark where files have changed since."""
    command = ["git", "describe", "--always", "--dirty=, changed", "--exclude=*"]
    described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return described.stdout.strip() or "not under git"
