"""The workflow as a module of somebody else's: `module diffprobe:` with `use rule * from diffprobe as dp_*`."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONFIG = {
    "results": "results/tiny",
    "datasets": {"digits": {"source": {"kind": "digits"}, "per_class": 20}},
    "experiments": {
        "t": {
            "dataset": "digits",
            "network": {"kind": "unet", "channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "groups": 4},
            "process": {"kind": "edm"},
            "train": {"checkpoints": [1], "batch": 32},
            "sample": {"samplers": {"euler": {"kind": "euler", "steps": 2}}, "images": 8},
        }
    },
}
SNAKEFILE = f"""configfile: "tiny.yaml"

module diffprobe:
    snakefile: "{ROOT}/Snakefile"
    config: config

use rule * from diffprobe as dp_*

rule everything:
    default_target: True
    input: rules.dp_all.input
"""


def test_it_runs_to_a_report(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for more in (["--cores", "2"], ["--report", "report.html"]):
        command = [sys.executable, "-m", "snakemake", *more]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "results/tiny/summary.csv").exists()
    assert (tmp_path / "report.html").stat().st_size > 1e6
