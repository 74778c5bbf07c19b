"""Training by several processes and in parts of a batch: the same batch, the same weights within rounding."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffprobe.config.load import parse
from diffprobe.data import images
from diffprobe.plan import job_arguments

ROOT = Path(__file__).parents[1]
UNET = {"kind": "unet", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 4}
BATCH, STEPS = 32, 12


def config(dropout: float) -> str:
    """The subtree of a small run on 8x8 images with all that training can do to them."""
    experiment = {
        "dataset": "d",
        "network": UNET | {"dropout": dropout},
        "process": {"kind": "ddpm", "steps": 50},
        "train": {
            "checkpoints": [1],
            "batch": BATCH,
            "precision": "fp32",  # bf16, which `auto` is on some CPUs, rounds parts and wholes too differently
            "clip": 1.0,
            "augment": {"p": 0.5},
            "cosine_kimg": 1,
            "warmup_kimg": 0.1,
            "averages": {"ema": {"kind": "ddae"}, "long": {"kind": "half_life", "kimg": 1}},
        },
        "sample": {"samplers": {"ddim": {"kind": "ddim", "steps": 5}}, "images": 10},
    }
    whole = parse({"datasets": {"d": {"source": {"kind": "digits"}}}, "experiments": {"e": experiment}})
    return json.dumps(job_arguments.pretrain(whole, whole.experiments["e"]))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("world") / "images.h5"
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    images.write(path, pixels, np.zeros(100, np.int64), np.zeros(100, np.uint8), classes=json.dumps(["a"]))
    return path


def command(store: Path, run: Path, processes: int, steps: int = STEPS, dropout: float = 0.0, **more: object) -> list:
    """The command line of one training job, as the rule gives it."""
    checkpoint = run / "checkpoints" / "1"
    checkpoint.mkdir(parents=True, exist_ok=True)
    names = {"ema": "ema.safetensors", "raw": "raw.safetensors", "stats": "stats.jsonl", "receipt": "receipt.json"}
    options = {"kimg": 1, "start": 0, "stop": steps, "keep": "last", "autosave": 1e6, "compile": "never"} | more
    options["processes"] = processes
    job = [str(ROOT / "workflow/scripts/train.py"), config(dropout), "--in", f"images={store}", "--out"]
    job += [f"{name}={checkpoint / file}" for name, file in names.items()]
    job += ["--with", *(f"{name}={value}" for name, value in options.items()), "--log", str(run / "logs" / "job.log")]
    (run / "logs").mkdir(exist_ok=True)
    return [sys.executable, *job, "--threads", "2", "--name", "job"]


def trained(store: Path, run: Path, processes: int, **more: object) -> dict[str, torch.Tensor]:
    ran = subprocess.run(command(store, run, processes, **more), capture_output=True, text=True, env=environment())
    assert ran.returncode == 0, ran.stderr
    return weights(run)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="module")
def alone(store: Path, tmp_path_factory) -> Path:
    """The run of one process with whole batches."""
    run = tmp_path_factory.mktemp("alone")
    trained(store, run, 1)
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints/1/ema.safetensors")


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "checkpoints/1/stats.jsonl").read_text().splitlines()]


def test_parts_of_a_batch_give_the_weights_of_the_whole(store, alone, tmp_path):
    """Also where the last part is smaller: 32 images in parts of 12."""
    same(trained(store, tmp_path, 1, device_batch=12), weights(alone))


def test_two_processes_give_the_weights_of_one(store, alone, tmp_path):
    same(trained(store, tmp_path, 2, device_batch=10), weights(alone))
    receipt = json.loads((tmp_path / "checkpoints/1/receipt.json").read_text())
    assert receipt["processes"] == 2 and receipt["images"] == BATCH * STEPS
    assert [row["loss"] for row in rows(tmp_path)] == pytest.approx([row["loss"] for row in rows(alone)], rel=1e-5)


def test_two_nodes_give_the_weights_of_one_process(store, alone, tmp_path):
    """Two torchruns, as srun starts them, meet on loopback; each has one process of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    line = [*command(store, tmp_path, 2, nodes=2, device_batch=10), "--threads", "1"]  # of each node
    slurm = {"SLURM_JOB_ID": "1", "DIFFPROBE_RENDEZVOUS": place}
    settings = [environment() | slurm | {"SLURM_NODEID": str(node)} for node in range(2)]
    jobs = [subprocess.Popen(line, env=each, stderr=subprocess.PIPE, text=True) for each in settings]
    said = [job.communicate(timeout=900)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    same(weights(tmp_path), weights(alone))
    receipt = json.loads((tmp_path / "checkpoints/1/receipt.json").read_text())
    assert (receipt["processes"], receipt["nodes"]) == (2, 2)


def same(averages: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal within rounding, which Adam's first steps amplify where a gradient is nearly zero."""
    assert averages.keys() == expected.keys() and any(name.startswith("long/") for name in averages)
    whole = torch.cat([expected[name].flatten() for name in averages])
    apart = torch.cat([(averages[name] - expected[name]).flatten() for name in averages]).abs()
    assert apart.norm() < 5e-4 * whole.norm()
    assert apart.quantile(0.98) < 1e-5


def test_a_stop_of_two_processes_saves_and_goes_on_bit_for_bit(store, tmp_path):
    """With dropout: each process has masks of its own, keyed by step."""
    undisturbed = trained(store, tmp_path / "a", 2, steps=40, dropout=0.2)
    stopped = tmp_path / "b"
    job = subprocess.Popen(
        command(store, stopped, 2, steps=40, dropout=0.2),
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    stats = stopped / "stats.jsonl"
    while not stats.exists() and job.poll() is None:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait() != 0
    assert (stopped / "scratch" / "autosave.safetensors").exists()
    resumed = trained(store, stopped, 2, steps=40, dropout=0.2)
    receipt = json.loads((stopped / "checkpoints/1/receipt.json").read_text())
    assert 0 < receipt["from_step"] < 40
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
