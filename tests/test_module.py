"""The workflow as a module of somebody else's: `module diffprobe:` with `use rule * from diffprobe as dp_*`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from toy_workflow import TINY

ROOT = Path(__file__).parents[1]
CONFIG = {
    "results": "results/tiny",
    "datasets": {"digits": {"source": {"kind": "digits"}, "per_class": 20}},
    "autoencoders": TINY["autoencoders"],
    "latents": {"small": {"dataset": "digits", "autoencoder": "vae", "jobs": 2}},
    "extractors": {"small": TINY["extractors"]["small"]},
    "experiments": {
        "t": {
            "dataset": "digits",
            "latents": "small",
            "network": {"kind": "dit", "width": 16, "depth": 2, "heads": 2, "patch": 4},
            "process": {"kind": "edm"},
            "train": {"checkpoints": [1], "batch": 32},
            "sample": {"samplers": {"euler": {"kind": "euler", "steps": 2}}, "images": 8},
            "generation": {"extractors": ["small"]},
        }
    },
}
SNAKEFILE = """configfile: "tiny.yaml"

module diffprobe:
    snakefile: "{root}/Snakefile"
    config: config
    {more}

use rule * from diffprobe as dp_*

rule everything:
    default_target: True
    input: rules.dp_all.input
"""


FILES = ("Snakefile", "tiny.yaml")


def write(folder: Path, config: dict, more: str) -> None:
    (folder / "Snakefile").write_text(SNAKEFILE.format(root=ROOT, more=more))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))


def snakemake(folder: Path, *options: str) -> str:
    """What Snakemake prints in a folder whose environment knows nothing of the clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "snakemake", *options]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_it_runs_to_a_report_and_all_that_jobs_write_lies_below_the_prefix(tmp_path: Path) -> None:
    """Locks, progress, logs, training states and parts of stores too."""
    write(tmp_path, CONFIG, 'prefix: "below"')
    snakemake(tmp_path, "--cores", "2")
    snakemake(tmp_path, "--report", "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, ".snakemake", "below", "report.html"}
    results = tmp_path / "below/results/tiny"
    assert json.loads((results / "runs/t/progress.json").read_text())["state"] == "done"
    for made in ("summary.csv", "runs/t/states/*", "latents/small/latents.zarr/*/*/c/*", "logs/pretrain/t.1.lock"):
        assert list(results.glob(made)), made
    assert "Nothing to be done" in snakemake(tmp_path, "-n")


def test_the_catalogs_snakefile_makes_the_same(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".test" / "config", tmp_path / "config")
    planned = snakemake(tmp_path, "-n", "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--jobs", "2")
    assert {"pretrain", "generation", "evaluate", "summary"} <= set(planned.split())
    assert "gpu=1" in planned  # --jobs: on a cluster, whatever this machine has


@pytest.mark.parametrize("prefix", ["", 'prefix: "below"'], ids=["in place", "below a prefix"])
def test_files_of_the_users_own_stay_where_they_are(tmp_path: Path, prefix: str) -> None:
    autoencoder = TINY["autoencoders"]["vae"]
    with_vgg = autoencoder | {"train": autoencoder["train"] | {"perceptual": {"weight": 1, "vgg": "mine.pth"}}}
    write(tmp_path, CONFIG | {"autoencoders": {"vae": with_vgg}}, prefix)
    (tmp_path / "mine.pth").touch()
    planned = snakemake(tmp_path, "-n")
    assert "mine.pth" in planned and "below/mine.pth" not in planned
    assert ("below/results/tiny/summary.csv" in planned) == bool(prefix)


def test_a_workflow_that_includes_it_has_its_own_names_in_commands(tmp_path: Path) -> None:
    """We hide ours from Snakemake's formatting of commands, where nobody else's could be meant."""
    own = 'rule own:\n    output: "own.txt"\n    shell: "echo {WORD} > {output}"\n'
    (tmp_path / "Snakefile").write_text(f'WORD = "mine"\n\ninclude: "{ROOT}/Snakefile"\n\n{own}')
    snakemake(tmp_path, "own.txt", "--cores", "1")
    assert (tmp_path / "own.txt").read_text() == "mine\n"
