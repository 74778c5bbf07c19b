"""A small chain by the profile for Slurm, on a real Slurm; a job and a node's daemon are killed on the way."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from cluster import GPUS, NODES, PACKAGES, Cluster, said, until

ROOT = Path(__file__).parents[2]
NETWORK = {"kind": "unet", "channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "groups": 4}
CONFIG = {
    "datasets": {"digits": {"source": {"kind": "digits"}, "per_class": 50}},
    "experiments": {
        "small": {
            "dataset": "digits",
            "network": NETWORK,
            "process": {"kind": "edm"},
            "train": {"checkpoints": [2, 3], "batch": 32},
            "sample": {"samplers": {"euler": {"kind": "euler", "steps": 2}}, "images": 8},
        }
    },
    "state": {"autosave_seconds": 1},
}
# Every shell of a job writes down which devices it may see.
SEEN = 'if [ -n "${SLURM_JOB_ID-}" ]; then echo "$SLURM_JOB_ID ${CUDA_VISIBLE_DEVICES-none}" >> "$SEEN"; fi\n'


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if missing := [package for package in PACKAGES if f"ii  {package}" not in said("dpkg", "-l", package)]:
        pytest.skip(f"needs Debian's {' '.join(missing)}: make test-slurm")
    with Cluster(tmp_path / "slurm") as cluster:
        yield cluster


def trainings(project: Path) -> list[psutil.Process]:
    """The processes that train in a project."""
    lines = ((process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline", "cwd"]))
    return [p for p, line in lines if p.info["cwd"] == str(project) and any("train.py" in word for word in line[:3])]


def diffprobe(project: Path, config: dict, until_rule: str, **more: str) -> subprocess.Popen:
    """Start a run by the profile for Slurm, up to a rule; what it says goes to the file `log` beside the project."""
    project.mkdir()
    (project / "small.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "diffprobe", "run", "small.yaml", "--profile", "slurm", "--"]
    command += ["--until", until_rule, "--slurm-status-command", "squeue", "--seconds-between-status-checks", "2"]
    command += ["--slurm-init-seconds-before-status-checks", "2"]
    with (project.parent / "log").open("w") as log:
        return subprocess.Popen(
            command, cwd=project, env=os.environ | more, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def test_one_training_on_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """A process on each of them, by one torchrun each; loopback stands for the network."""
    config = json.loads(json.dumps(CONFIG))
    config["experiments"]["small"]["train"] |= {"checkpoints": [1], "devices": 2, "nodes": 2}
    config["threads"] = {"train": 1}  # of each node, which here are one machine
    project = tmp_path / "project"
    run = diffprobe(project, config, "pretrain")
    try:
        run.wait(900)
    finally:
        run.kill()
    assert run.returncode == 0, (tmp_path / "log").read_text()
    receipt = json.loads((project / "results/runs/small/checkpoints/1/receipt.json").read_text())
    assert (receipt["processes"], receipt["nodes"], receipt["images"]) == (2, 2, 1024)
    job = next(job for job, rule in submitted(tmp_path) if rule == "pretrain")
    allocated = said("scontrol", "show", "job", job)
    assert re.search(r"\bNumNodes=2\b", allocated) and re.search(r"TresPerNode=gres[:/]gpu:1\b", allocated), allocated


def submitted(folder: Path) -> list[tuple[str, str]]:
    """The jobs that a run has given to Slurm: number and rule."""
    return re.findall(r"SLURM jobid (\d+) \(log: \S+/slurm_logs/rule_(\w+)/", (folder / "log").read_text())


def test_a_chain_survives_a_killed_job_and_a_lost_node(cluster: Cluster, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (tmp_path / "seen.sh").write_text(SEEN)
    seen = tmp_path / "seen.txt"
    run = diffprobe(project, CONFIG, "sample", BASH_ENV=str(tmp_path / "seen.sh"), SEEN=str(seen))
    try:
        assert until(lambda: bool(trainings(project)), 300), (tmp_path / "log").read_text()
        trainings(project)[0].kill()
        until(lambda: not trainings(project), 30)
        assert until(lambda: bool(trainings(project)), 300), "a killed job was not tried again"
        busy = said("squeue", "-h", "--states=running", "-o", "%N").split()
        node = next(name for name in busy if name in NODES)
        cluster.lose(node)
        assert until(lambda: node in said("sinfo", "-h", "-N", "--states=down", "-o", "%N"), 120)
        run.wait(900)
    finally:
        run.kill()
    assert run.returncode == 0, (tmp_path / "log").read_text()
    for kimg in CONFIG["experiments"]["small"]["train"]["checkpoints"]:
        receipt = json.loads((project / f"results/runs/small/checkpoints/{kimg}/receipt.json").read_text())
        assert receipt["images"] == math.ceil(kimg * 1000 / 32) * 32
        assert (project / f"results/runs/small/samples/{kimg}/euler.zarr/zarr.json").exists()
    devices = dict(line.split() for line in seen.read_text().splitlines())
    assert len(submitted(tmp_path)) >= 7  # of five jobs one was killed, and one lost with its node
    for job, rule in submitted(tmp_path):
        assert (devices[job] == "none") if rule == "images" else (devices[job] in map(str, range(GPUS))), (job, rule)
