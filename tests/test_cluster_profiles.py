"""Jobs by the profiles for any scheduler and for Kubernetes: stand-ins run them in the background."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from diffprobe import kubernetes_job
from diffprobe.kubernetes_job import manifest
from diffprobe.runtime.errors import UserError

NETWORK = {"kind": "unet", "channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "groups": 4}
CONFIG = {
    "datasets": {"digits": {"source": {"kind": "digits"}, "per_class": 20}},
    "experiments": {
        "small": {
            "dataset": "digits",
            "network": NETWORK,
            "process": {"kind": "edm"},
            "train": {"checkpoints": [1], "batch": 64},
            "sample": {"samplers": {"euler": {"kind": "euler", "steps": 2}}, "images": 8},
        }
    },
}
# Stand-ins for a scheduler's commands: they run what they are given in the background, and note what was asked for.
QSUB = """#!/bin/bash
echo "$@" >> "$ASKED"
nohup bash "${@: -1}" > /dev/null 2>&1 &
echo $!
"""
KUBECTL = """#!/usr/bin/env python3
import json, os, subprocess, sys

verb, *words = sys.argv[1:]
if verb == "create":
    job = json.load(sys.stdin)
    with open(os.environ["ASKED"], "a") as asked:
        print(json.dumps(job), file=asked)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    quiet = subprocess.DEVNULL
    print("job.batch/", subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet).pid, sep="")
elif verb == "get":
    number = words[0].split("/")[1]
    state = subprocess.run(["ps", "-o", "stat=", "-p", number], capture_output=True, text=True).stdout
    alive = state.strip() and not state.startswith("Z")
    print(json.dumps({"status": {"active": 1} if alive else {"succeeded": 1}}))
"""


def asked(folder: Path, profile: str, command: str, script: str) -> list[str]:
    """What a scheduler's command is asked for in a run of two jobs, images and training."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic", reason="needs the plugin: make test-slurm")
    (folder / "bin").mkdir()
    (folder / "bin" / command).write_text(script)
    (folder / "bin" / command).chmod(0o755)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    settings = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "ASKED": str(folder / "asked.txt")}
    settings |= {"DIFFPROBE_IMAGE": "diffprobe", "DIFFPROBE_VOLUME": f"claim:{folder}"}
    line = [sys.executable, "-m", "diffprobe", "run", "small.yaml", "--profile", profile, "--"]
    line += ["--until", "pretrain", "--latency-wait", "5", "--seconds-between-status-checks", "4"]
    ran = subprocess.run(line, cwd=folder, env=os.environ | settings, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    receipt = json.loads((folder / "results/runs/small/checkpoints/1/receipt.json").read_text())
    assert receipt["images"] == 1024
    return (folder / "asked.txt").read_text().splitlines()


def test_any_scheduler(tmp_path: Path) -> None:
    images, pretrain = asked(tmp_path, "cluster-generic", "qsub", QSUB)
    line = r"-N {} .*-l select=1:ncpus={}:mem={}mb:ngpus={} -l walltime={} \S+\.sh"
    assert re.fullmatch(line.format("images", r"\d+", 4000, 0, 720 * 60), images)
    assert re.fullmatch(line.format("pretrain", 2, r"\d+", 1, 1440 * 60), pretrain)


def test_kubernetes(tmp_path: Path) -> None:
    images, pretrain = map(json.loads, asked(tmp_path, "kubernetes", "kubectl", KUBECTL))
    assert [job["metadata"]["generateName"] for job in (images, pretrain)] == [
        "diffprobe-images-",
        "diffprobe-pretrain-",
    ]
    containers = [job["spec"]["template"]["spec"]["containers"][0] for job in (images, pretrain)]
    assert [each["resources"]["limits"].get("nvidia.com/gpu") for each in containers] == [None, "1"]
    assert containers[0]["resources"]["requests"]["memory"] == "4000M"
    assert [each["workingDir"] for each in containers] == [str(tmp_path)] * 2


def test_a_job_is_one_of_kubernetes_own_types(tmp_path: Path) -> None:
    """By the names and types of its Python client, which drops keys that it does not know."""
    client = pytest.importorskip("kubernetes.client", reason="needs the package kubernetes: make test-slurm")
    about = Namespace(name="plots_2", cpus=2, memory_mb=8000, gpus=4, minutes=60, script="job.sh")
    job = manifest(about, "registry.example/diffprobe", f"claim:{tmp_path}", tmp_path / "project")
    api = client.ApiClient()
    assert api.sanitize_for_serialization(api.deserialize(json.dumps(job), "V1Job", "application/json")) == job
    with pytest.raises(UserError, match="DIFFPROBE_VOLUME: 'claim' is refused; allowed: claim:/place"):
        manifest(about, "diffprobe", "claim", tmp_path)


@pytest.mark.parametrize(
    ("state", "said"),
    [({"active": 1}, "running"), ({}, "running"), ({"succeeded": 1}, "success"), ({"failed": 1}, "failed")],
)
def test_states(state: dict, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(kubernetes_job, "kubectl", lambda *arguments: json.dumps({"status": state}))
    kubernetes_job.main(["status", "job.batch/diffprobe-x"])
    assert capsys.readouterr().out == f"{said}\n"
