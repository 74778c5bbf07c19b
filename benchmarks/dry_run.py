"""CPU seconds before any job: of the command line, `describe`, and dry runs of the demo and of a large config.

    python benchmarks/dry_run.py
    python benchmarks/dry_run.py --experiments 100 --checkpoints 20 --profile

The large config is the demo's first experiment, under as many names and with as many checkpoints; nothing of it is
trained. Seconds are user and system time of the command and its children, which other programs on the machine hardly
affect. `--profile` prints where a dry run of the large config spends them.
"""

import argparse
import copy
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "config" / "config.yaml"
PYTHON = [sys.executable, "-m"]


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of the command line and of dry runs.")
    parser.add_argument("--experiments", type=int, default=100)
    parser.add_argument("--checkpoints", type=int, default=20, help="of each experiment")
    parser.add_argument("--repeats", type=int, default=1, help="of each command; the least is printed")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "large.yaml"
        config.write_text(yaml.safe_dump(large(arguments.experiments, arguments.checkpoints), sort_keys=False))
        for name, command in commands(config, arguments.profile):
            runs = [seconds(command, Path(folder)) for _ in range(arguments.repeats)]
            best, jobs, output = min(runs)
            print(f"{name:<32}{best:>8.2f} CPU s{jobs:>8} jobs", flush=True)
            if "cProfile" in command:
                print(output)


def large(experiments: int, checkpoints: int) -> dict[str, Any]:
    """The demo's first experiment under many names, each with many checkpoints."""
    config = yaml.safe_load(DEMO.read_text())
    experiment = copy.deepcopy(config["experiments"]["digits_edm"])
    experiment["train"]["checkpoints"] = list(range(10, 10 * checkpoints + 1, 10))
    names = [f"run_{i}" for i in range(experiments)]
    return config | {"experiments": {name: copy.deepcopy(experiment) for name in names}}


def commands(config: Path, profile: bool) -> Iterator[tuple[str, list[str]]]:
    dry = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet", "rules"]
    yield "diffprobe --help", [*PYTHON, "diffprobe", "--help"]
    yield "diffprobe describe", [*PYTHON, "diffprobe", "describe", "--configfile", str(DEMO)]
    yield "dry run of the demo", [*PYTHON, *dry, "--configfile", str(DEMO)]
    profiled = [*PYTHON, "cProfile", "-s", "tottime", "-m", *dry, "--configfile", str(config)]
    yield "dry run of the large config", profiled if profile else [*PYTHON, *dry, "--configfile", str(config)]


def seconds(command: list[str], folder: Path) -> tuple[float, int, str]:
    """CPU seconds of a command, the number of jobs in its table of jobs, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "0"}
    before = os.times()
    output = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    after = os.times()
    if output.returncode:
        sys.exit(output.stdout + output.stderr)
    totals = re.findall(r"^total +(\d+)$", output.stdout, re.MULTILINE)
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, int(totals[0]) if totals else 0, output.stdout[-12_000:]


if __name__ == "__main__":
    main()
