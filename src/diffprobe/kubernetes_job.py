"""Jobs of the workflow as Kubernetes Jobs, by kubectl: what profiles/kubernetes submits with.

    python -m diffprobe.kubernetes_job submit --name pretrain --cpus 2 --memory-mb 8000 --gpus 1 --minutes 60 SCRIPT
    python -m diffprobe.kubernetes_job status JOB        # running, success or failed
    python -m diffprobe.kubernetes_job cancel JOB ...

Snakemake itself runs in a pod of the same image. All pods mount one volume, on which the project lies: jobs write more
than they declare (chunks of stores, training states). Snakemake's own executor for Kubernetes would lose that, since it
takes no file system for shared and copies declared files alone.

DIFFPROBE_IMAGE is the image, DIFFPROBE_VOLUME the claim of the volume and its place in every pod, `claim:/place`.
"""

import argparse
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from diffprobe.runtime.command import ends_in_one_line
from diffprobe.runtime.errors import UserError

IMAGE, VOLUME = "DIFFPROBE_IMAGE", "DIFFPROBE_VOLUME"
KEPT = 24 * 3600  # seconds that Kubernetes keeps a job that has ended


def manifest(arguments: argparse.Namespace, image: str, volume: str, folder: Path) -> dict[str, Any]:
    """A Job that runs one script of Snakemake, once, in the project's folder. Raises UserError for a volume that is no
    `claim:/place`, or does not hold the folder.
    """
    claim, _, place = volume.partition(":")
    if not claim or not place.startswith("/") or not folder.is_relative_to(place):
        raise UserError(f"{VOLUME}: {volume!r} is refused; allowed: claim:/place, with {folder} on that volume")
    requests = {"cpu": str(arguments.cpus), "memory": f"{arguments.memory_mb}M"}
    gpus = {"nvidia.com/gpu": str(arguments.gpus)} if arguments.gpus else {}
    container = {
        "name": "job",
        "image": image,
        "command": ["/bin/sh", arguments.script],
        "workingDir": str(folder),
        # Memory is limited too, so that a job that takes more is told so, and tried again with more.
        "resources": {"requests": requests | gpus, "limits": {"memory": requests["memory"]} | gpus},
        # Processes that train together exchange data in /dev/shm, of which a container has 64 MB by default.
        "volumeMounts": [{"name": "project", "mountPath": place}, {"name": "memory", "mountPath": "/dev/shm"}],
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "project", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    name = re.sub(r"[^a-z0-9]+", "-", arguments.name.lower()).strip("-")
    spec = {
        "backoffLimit": 0,  # Snakemake tries again, with more memory and time
        "activeDeadlineSeconds": 60 * arguments.minutes,
        "ttlSecondsAfterFinished": KEPT,
        "template": {"spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": f"diffprobe-{name}-"}, "spec": spec}


def submit(arguments: argparse.Namespace) -> None:
    """Print the job's name."""
    if missing := [name for name in (IMAGE, VOLUME) if not os.environ.get(name)]:
        raise UserError(f"the environment variable {missing[0]} is not set; see profiles/kubernetes/profile.yaml")
    job = manifest(arguments, os.environ[IMAGE], os.environ[VOLUME], Path.cwd())
    print(kubectl("create", "--filename", "-", "--output", "name", text=json.dumps(job)))


def status(arguments: argparse.Namespace) -> None:
    """Print running, success or failed; a job that is gone has failed."""
    said = kubectl("get", arguments.job, "--ignore-not-found", "--output", "json")
    state = json.loads(said).get("status", {}) if said else {"failed": 1}
    print("success" if state.get("succeeded") else "failed" if state.get("failed") else "running")


def cancel(arguments: argparse.Namespace) -> None:
    kubectl("delete", "--ignore-not-found", "--wait=false", *arguments.jobs)


def kubectl(*arguments: str, text: str = "") -> str:
    """What it prints. Raises UserError with what it says where it fails."""
    try:
        ran = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("kubectl: no such command; install it in the image") from None
    if ran.returncode:
        raise UserError(f"kubectl {arguments[0]}: {ran.stderr.strip() or f'exit status {ran.returncode}'}")
    return ran.stdout.strip()


def main(argv: list[str] | None = None) -> None:
    """Submit, ask for or cancel jobs, by the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    submitting, asking, cancelling = (commands.add_parser(name) for name in ("submit", "status", "cancel"))
    submitting.add_argument("--name", required=True)
    for amount in ("--cpus", "--memory-mb", "--gpus", "--minutes"):
        submitting.add_argument(amount, type=int, required=True)
    submitting.add_argument("script")
    submitting.set_defaults(function=submit)
    asking.add_argument("job")
    asking.set_defaults(function=status)
    cancelling.add_argument("jobs", nargs="+")
    cancelling.set_defaults(function=cancel)
    with ends_in_one_line():
        arguments = parser.parse_args(argv)
        arguments.function(arguments)


if __name__ == "__main__":
    main()
