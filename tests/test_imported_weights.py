"""The job that makes a checkpoint of imported weights, where the network is one of latents."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffprobe.config.built import parse_model
from diffprobe.latents.store import open_store
from diffprobe.networks.build import build
from diffprobe.runtime.receipts import read_receipt
from diffprobe.training import checkpoints

SCRIPT = Path(__file__).parents[1] / "workflow" / "scripts" / "imported.py"
HEADER = {
    "network": {"kind": "dit", "width": 8, "depth": 1, "heads": 1, "patch": 1, "augment": False},
    "process": {"kind": "ddpm"},
    "shape": {"image_channels": 2},
    "image": [2, 2, 2],
    "images": 0,
    "identity": "theirs",
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    states = [build(parse_model(HEADER), **HEADER["shape"]).state_dict() for _ in range(2)]
    checkpoints.write(path, dict(zip(("ema", "other"), states, strict=True)), HEADER)
    return path


def run(folder: Path, pictures: Path, store: Path, weights: Path) -> subprocess.CompletedProcess[str]:
    config = json.dumps({key: HEADER[key] for key in ("network", "process")})
    inputs = {"weights": weights, "images": pictures, "latents": store / "zarr.json"}
    outputs = {"ema": folder / "ema.safetensors", "receipt": folder / "receipt.json"}
    command = [sys.executable, str(SCRIPT), config, "--log", str(folder / "log")]
    for option, files in (("--in", inputs), ("--out", outputs)):
        command += [option, *(f"{name}={path}" for name, path in files.items())]
    return subprocess.run(command, capture_output=True, text=True)


def tensors(path: Path, name: str) -> dict[str, Tensor]:
    return checkpoints.state_dict(path, ["ema", "other"], name)


def test_a_model_of_latents_names_their_store(tmp_path: Path, pictures: Path, original: Path, weights: Path) -> None:
    """Without scale and content, its samples could not be decoded, and its features would be refused."""
    ran = run(tmp_path, pictures, original, weights)
    assert ran.returncode == 0, ran.stderr
    header, store = checkpoints.header(tmp_path / "ema.safetensors"), open_store(original)
    named = header.pop("latents")
    assert header == HEADER | {"weights": ["ema", "other"]}
    assert named.pop("image") == [1, 4, 4] and named.pop("content") == store.content
    assert named == {"scale": store.scale.tolist(), "shift": store.shift.tolist()}
    for name in ("ema", "other"):
        theirs, ours = (tensors(path, name) for path in (weights, tmp_path / "ema.safetensors"))
        assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in theirs)
    assert read_receipt(tmp_path / "receipt.json")["weights"] == ["ema", "other"]


def test_latents_of_another_size_are_refused_in_one_line(
    tmp_path: Path, pictures: Path, original: Path, weights: Path
) -> None:
    states = {name: tensors(weights, name) for name in ("ema", "other")}
    checkpoints.write(weights, states, HEADER | {"image": [4, 32, 32]})
    ran = run(tmp_path, pictures, original, weights)
    assert ran.returncode and "Traceback" not in ran.stderr
    line = f"{weights}: for latents of 4x32x32, but those of the config are 2x2x2; import again"
    assert line in ran.stderr and not (tmp_path / "ema.safetensors").exists()


@pytest.mark.parametrize("factor", [1.001, 1.5])
def test_weights_that_were_trained_here_are_for_latents_of_their_scale(
    tmp_path: Path, pictures: Path, original: Path, weights: Path, factor: float
) -> None:
    """Of another pixel range they keep the one that their samples are decoded to."""
    store = open_store(original)
    latents = {"scale": (factor * store.scale).tolist(), "shift": store.shift.tolist(), "normalise": "imagenet"}
    states = {name: tensors(weights, name) for name in ("ema", "other")}
    checkpoints.write(weights, states, HEADER | {"latents": latents | {"image": [1, 4, 4], "content": "theirs"}})
    ran = run(tmp_path, pictures, original, weights)
    if factor > 1.1:
        assert ran.returncode and "Traceback" not in ran.stderr
        assert (
            f"{weights}: trained on latents of scale" in ran.stderr and "give both one number as `scale`" in ran.stderr
        )
        assert not (tmp_path / "ema.safetensors").exists()
    else:
        named = checkpoints.header(tmp_path / "ema.safetensors")["latents"]
        assert (named["scale"], named["normalise"]) == (store.scale.tolist(), "imagenet")
