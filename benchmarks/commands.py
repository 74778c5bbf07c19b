"""What the rows of commands share: a piece is a command of ours, run to its end; its CPU seconds are what counts."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.row import ROOT, Piece, Setting

DEMO = ROOT / "config" / "config.yaml"
WORKFLOW = ("snakemake", "--snakefile", str(ROOT / "Snakefile"))  # in any folder, which then holds the results
DRY = (*WORKFLOW, "--dry-run", "--quiet", "rules", "--configfile")


def run(command: Sequence[str], folder: Path, **environment: str) -> str:
    """The output of `python -m COMMAND` in a folder. It ends this program where it fails."""
    path = {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "0"} | environment
    whole = [sys.executable, "-m", *command]
    ran = subprocess.run(whole, cwd=folder, env=os.environ | path, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {ran.returncode}\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}")
    return ran.stdout


def side(command: Callable[[Setting], Sequence[str]], **environment: str) -> Callable[[Setting], Piece]:
    """Pieces of one run each."""

    def prepared(setting: Setting) -> Piece:
        words = command(setting)

        def piece() -> float:
            run(words, setting.folder, **environment)
            return 1

        return piece

    return prepared


def jobs(output: str) -> int:
    """The number of jobs that a dry run lists."""
    return int(re.findall(r"^total +(\d+)$", output, re.MULTILINE)[-1])
