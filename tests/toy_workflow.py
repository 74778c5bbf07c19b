"""A tiny config of every stage, and what tests do with a project that runs it."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from kills import copy_project, run

from diffprobe.runtime.locks import exclusive

HEADS = {"kind": "linear", "epochs": 3, "lr": [0.01, 0.03]}
TINY = {
    "results": "results",
    "datasets": {"digits": {"source": {"kind": "digits"}}},
    "autoencoders": {
        "vae": {
            "kind": "trained",
            "dataset": "digits",
            "size": 16,
            "resize": "repeat",
            "network": {"kind": "autoencoder_kl", "widths": [4, 8], "blocks": 1, "groups": 4, "attention": False},
            "train": {"kimg": 1, "batch": 64, "ema_kimg": 1},
        }
    },
    "latents": {
        "views": {
            "dataset": "digits",
            "autoencoder": "vae",
            "views": [{"kind": "identity"}, {"kind": "crop", "pad": 1, "flip": False}],
            "shard_chunks": 2,
        }
    },
    "extractors": {"small": {"kind": "classifier", "dataset": "digits", "channels": 8, "kimg": 2}},
    "experiments": {
        "tiny": {
            "dataset": "digits",
            "network": {
                "kind": "unet",
                "channels": 8,
                "multipliers": [1, 2],
                "blocks": 1,
                "attention": [1],
                "groups": 4,
            },
            "process": {"kind": "edm"},
            "train": {"checkpoints": [3, 6], "batch": 64, "averages": {"ema": {"kind": "half_life", "kimg": 1}}},
            "sample": {"samplers": {"heun5": {"kind": "heun", "steps": 5}}, "images": 40},
            "generation": {"extractors": ["small"]},
            "probe": {
                "levels": [0.1, 0.5],
                "seeds": [0, 1],
                "evaluators": {"linear": HEADS, "knn": {"kind": "knn"}},
                "subset": {"images": 40},
                "monitors": [{"kind": "contrastive"}, {"kind": "similarity", "to": "small"}],
                "similarity": {"experiments": ["tiny_dit"]},
                "pictures": {"images": 4, "points": 40, "perplexity": 10},
            },
        },
        "tiny_dit": {
            "dataset": "digits",
            "latents": "views",
            "network": {"kind": "dit", "width": 16, "depth": 2, "heads": 2, "patch": 4},
            "process": {"kind": "flow", "t": "logit_normal"},
            "train": {"checkpoints": [2], "batch": 64, "averages": {"ema": {"kind": "half_life", "kimg": 1}}},
            "sample": {
                "samplers": {"guided": {"kind": "heun", "steps": 3, "guidance": 2}},
                "images": 20,
                "keep_samples": 8,
            },
            "generation": {"extractors": ["small"], "figures": ["fd20", "is"], "nearest": 0},
            "probe": {
                "levels": [0.2],
                "taps": ["block_0", "block_1"],
                "seeds": [0],
                "augmented": 2,
                "label": 3,
                "subset": {"images": 40},
                "evaluators": {"linear": HEADS, "logistic": {"kind": "logistic", "combine": [{"tap": "block_0"}]}},
            },
        },
    },
    "state": {"autosave_seconds": 0.2},
    "threads": {"train": 1},
}


def project_with(folder: Path, config: dict) -> Path:
    project = copy_project(folder)
    configure(project, config)
    return project


def configure(project: Path, config: dict) -> None:
    (project / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def planned(project: Path, *more: str) -> dict[str, int]:
    """How many jobs of each rule a dry run schedules."""
    process = run(project, "-n", *more)
    said = process.stdout + process.stderr
    assert process.returncode == 0, said
    return planned_in(said)


def planned_in(said: str) -> dict[str, int]:
    """The same, of what a dry run has said."""
    table = re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)
    assert bool(table) != ("Nothing to be done" in said), said
    return {rule: int(count) for rule, count in table if rule not in ("all", "total")}


def done(project: Path, *more: str) -> None:
    process = run(project, *more)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose main job is done, one for all of pytest's workers. Tests that change it work on a copy."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with exclusive(folder / "finished.lock", lambda owner: None):
        if not (folder / "finished.done").exists():
            shutil.rmtree(folder / "finished", ignore_errors=True)
            done(project_with(folder / "finished", TINY))
            (folder / "finished.done").touch()
    return folder / "finished"


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of one's own."""
    passing = shutil.ignore_patterns("locks", "log")  # Snakemake's, of another worker's run
    return shutil.copytree(finished, tmp_path / "project", ignore=passing)
