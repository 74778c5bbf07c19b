"""The jobs of probing, in this process, on a small untrained network and real digits; what tests of probing share."""

import json
import runpy
from pathlib import Path
from typing import Any, NamedTuple

from diffprobe.runtime.job import run

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from diffprobe.config.built import parse_network
from diffprobe.config.levels import parts
from diffprobe.config.load import parse
from diffprobe.config.models import Experiment
from diffprobe.data import images
from diffprobe.data.splits import SPLITS, stratified
from diffprobe.networks.build import build
from diffprobe.plan import probe_job_arguments
from diffprobe.training import checkpoints

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
UNET = {"kind": "unet", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 4}
UNET |= {"head_groups": 4, "dropout": 0.5}
HEADS = {"kind": "linear", "epochs": 4, "batch": 64, "lr": [0.01, 0.1]}
PROBE = {"levels": [0.1, 0.5], "taps": ["mid", "out_1", "out_4"], "seeds": [0, 1]}
PROBE |= {"evaluators": {"linear": HEADS, "knn": {"kind": "knn", "k": [1, 10]}}}
EXPERIMENT = {"dataset": "digits", "network": UNET, "process": {"kind": "edm"}, "train": {"checkpoints": [1]}}
EXPERIMENT |= {"sample": {"samplers": {"heun": {"kind": "heun", "steps": 3}}}, "probe": PROBE}


class ProbingRun(NamedTuple):
    grid: pd.DataFrame
    choice: dict[str, Any]
    rows: list[dict[str, Any]]  # of every checkpoint on what it is chosen on
    test: dict[str, dict[str, Any]]  # by evaluator, as written


def experiment(conditional: bool = False, **probe: Any) -> Experiment:
    """The toy experiment with other keys of its probe."""
    whole = EXPERIMENT | {"network": UNET | {"conditional": conditional}, "probe": PROBE | probe}
    return parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"toy": whole}}).experiments[
        "toy"
    ]


def write_digits(path: Path, per_split: int = 400, shuffled: bool = False) -> Path:
    """An image store of digits; with `shuffled` its test has its labels in another order."""
    x, labels = load_digits().images, load_digits().target.copy()
    split = stratified(labels, 0, 0.2, 0.2)
    rows = np.concatenate([np.flatnonzero(split == i)[: per_split if i == 0 else 200] for i in range(len(SPLITS))])
    x, labels, split = (x[rows] * 15.9).astype(np.uint8)[..., None], labels[rows], split[rows]
    if shuffled:
        test = np.flatnonzero(split == SPLITS.index("test"))
        labels[test] = np.random.default_rng(0).permutation(labels[test])
    images.write(path, x, labels, split, classes=[str(i) for i in range(10)])
    return path


def write_model(path: Path, classes: int = 0) -> Path:
    torch.manual_seed(0)
    network = UNET | {"conditional": bool(classes), "augment": False, "label_dropout": 0.1}
    shape = {"image_channels": 1} | ({"classes": classes} if classes else {})
    head = {"network": network, "process": {"kind": "edm"}, "shape": shape, "image": [1, 8, 8]}
    checkpoints.write(path, {"ema": build(parse_network(network), **shape).state_dict()}, head)
    return path


def call(
    script: str, config: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any], folder: Path, **options: Any
) -> None:
    """One job, as a rule would call it. SystemExit where it ends badly."""
    argv = [json.dumps(config), "--log", str(folder / "logs" / script / "log.log"), "--threads", "1"]
    for flag, group in (("--in", inputs), ("--out", outputs), ("--with", {"batch": 128, "autosave": 60} | options)):
        argv += [flag, *(f"{name}={path}" for name, path in group.items())]
    run(runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"], argv)


def features(folder: Path, pictures: Path, weights: Path, settings: Experiment) -> dict[str, Path]:
    """The stores of a checkpoint's grid."""
    stores = {}
    for part in range(parts(settings)):
        stores[f"store.{part}"] = folder / "features" / str(part)
        inputs = {"weights": weights, "data": pictures, "images": pictures}
        outputs = {"store": stores[f"store.{part}"], "receipt": folder / f"features.{part}.json"}
        call("features", probe_job_arguments.features(settings, part), inputs, outputs, folder)
    return stores


def select(folder: Path, pictures: Path, stores: dict[str, Path], settings: Experiment) -> dict[str, Any]:
    """The grid of a checkpoint."""
    row = {"experiment": "toy", "dataset": "digits", "kimg": 1}
    outputs = {name: folder / name for name in ("grid", "select", "receipt")}
    call("grid", probe_job_arguments.grid(settings, row), stores | {"images": pictures}, outputs, folder)
    return json.loads(outputs["select"].read_text())


def chain(folder: Path, pictures: Path, weights: Path, settings: Experiment) -> ProbingRun:
    """All jobs of probing."""
    grid = select(folder, pictures, features(folder, pictures, weights, settings), settings)
    row = {"experiment": "toy", "dataset": "digits"}
    choice, store = folder / "choice.json", folder / "features/chosen/features.json"
    call("choice", {}, {"select.0": folder / "select"}, {"choice": choice, "receipt": folder / "r"}, folder)
    inputs = {"choice": choice, "data": pictures, "weights.0": weights}
    call("chosen", probe_job_arguments.chosen(settings), inputs, {"store": store, "receipt": folder / "r"}, folder)
    test = {}
    for name in settings.probe.evaluators:
        out = {"rows": folder / f"{name}.json", "receipt": folder / "r"}
        inputs = {"choice": choice, "store": store, "images": pictures}
        call("evaluate", probe_job_arguments.evaluate(settings, name, row), inputs, out, folder)
        test[name] = json.loads(out["rows"].read_text())
    return ProbingRun(pd.read_csv(folder / "grid"), json.loads(choice.read_text()), grid["rows"], test)


@pytest.fixture(scope="session")
def digits_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("probing") / "images.h5")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("probing") / "ema.safetensors")
