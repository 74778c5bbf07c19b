"""Workflows with configs of their own, apart from the tiny one that tests/test_workflow.py runs again and again."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kills import plain, run
from toy_networks import OURS, diffusers_model, saved
from toy_workflow import TINY, configure, done, planned, project_with

from diffprobe.config.schedules import linear_abar, nearest, ratios
from diffprobe.data.samples import open_samples
from diffprobe.networks.dit import DiT
from diffprobe.runtime.locks import exclusive
from diffprobe.training import checkpoints

PIXELS = {key: TINY[key] for key in ("results", "datasets")}  # without what serves latents and generation
# Without comparisons with other experiments and extractors.
PROBE = {key: TINY["experiments"]["tiny"]["probe"][key] for key in ("levels", "seeds", "evaluators")}


def test_several_averages_processes_and_samplers(tmp_path: Path) -> None:
    """DDPM in pixels, flipped; images drawn from each set of weights, by each of its samplers."""
    tiny = json.loads(json.dumps(TINY["experiments"]["tiny"]))
    other = {key: value for key, value in tiny.items() if key not in ("generation", "probe")}
    other |= {"process": {"kind": "ddpm", "steps": 20, "time_input": "fraction"}}
    other["train"] |= {
        "checkpoints": [2],
        "flip": True,
        "averages": {"a": {"kind": "ddae"}, "b": {"kind": "half_life"}},
    }
    kinds = {
        "a": {"kind": "ddpm"},
        "b": {"kind": "ddim", "steps": 5, "eta": 0.5, "table": "ddae"},
        "raw": {"kind": "ddim"},
    }
    kinds["raw"]["steps"] = 20
    other["sample"]["samplers"] = {name: kind | {"weights": name, "clip": True} for name, kind in kinds.items()}
    other["probe"] = PROBE | {
        "weights": "b",
        "levels": [0.05, {"t": 7}],
        "taps": ["mid"],
    }
    project = project_with(tmp_path / "p", PIXELS | {"experiments": {"other": other}})
    folder = project / "results/runs/other"
    stores = [f"results/runs/other/samples/2/{name}.zarr/zarr.json" for name in kinds]
    done(project, "results/runs/other/probe/2/grid.csv", *stores)
    drawn = [open_samples(folder / f"samples/2/{name}.zarr") for name in kinds]
    assert len({store.content for store in drawn}) == 3
    assert [store.about["weights"]["name"] for store in drawn] == list(kinds)
    steps = ratios(linear_abar(20, 1e-4, 0.02))
    sigmas = [steps[nearest(0.05, steps)], steps[7]]
    assert sorted(set(pd.read_csv(folder / "probe/2/grid.csv")["sigma"])) == pytest.approx(sigmas)


def test_a_diffusers_model_is_imported_drawn_from_and_probed(tmp_path: Path) -> None:
    """As it is, and as our U-Net: the same model, so the same images and the same accuracy."""
    networks = {"theirs": {"kind": "diffusers", "path": "model"}, "ours": OURS}
    common = {
        "dataset": "digits",
        "process": {"kind": "ddpm"},
        "sample": {"samplers": {"ddim5": {"kind": "ddim", "steps": 5, "clip": True}}, "images": 20},
        "probe": PROBE | {"taps": ["out_2"], "levels": [0.1]},
    }
    experiments = {
        name: common | {"network": network, "train": {"checkpoints": [1], "imported": f"{name}.safetensors"}}
        for name, network in networks.items()
    }
    project = project_with(tmp_path / "p", PIXELS | {"experiments": experiments})
    saved(diffusers_model(), project / "model")
    missing = run(project, "-n")
    assert "train.imported: theirs.safetensors: no such file; diffprobe import writes it" in missing.stderr
    for name in networks:
        command = [sys.executable, "-m", "diffprobe", "import", "--format", "diffusers", "model", "--experiment", name]
        process = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
    folders = [f"results/runs/{name}" for name in networks]
    samples = [f"{folder}/samples/1/ddim5.zarr" for folder in folders]
    figures = [f"{folder}/probe/1/grid.csv" for folder in folders]
    done(project, *(f"{store}/zarr.json" for store in samples), *figures)
    drawn = [open_samples(project / store).read(0, 20).astype(int) for store in samples]
    assert np.abs(drawn[0] - drawn[1]).max() <= 1 and drawn[0].std() > 10
    values = [pd.read_csv(project / file)["accuracy"] for file in figures]
    assert values[0].tolist() == pytest.approx(values[1].tolist(), abs=0.01)
    assert planned(project, *figures) == {}


def test_a_published_transformer_is_imported_drawn_from_and_probed(tmp_path: Path) -> None:
    """ImageNet's DiT in small, at random weights, on latents of other images: probed and drawn from without a label."""
    torch.manual_seed(0)
    published = DiT(4, width=16, depth=3, heads=2, patch=2, classes=1000, out_channels=8)
    for parameter in published.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network = {"kind": "dit", "width": 16, "depth": 3, "heads": 2, "patch": 2, "conditional": False, "augment": False}
    sampler = {"kind": "ddpm", "steps": 5, "variance": "learned", "spacing": "dit"}
    experiment = {
        "dataset": "digits",
        "latents": "views",
        "network": network,
        "process": {"kind": "iddpm"},
        "train": {"checkpoints": [1], "imported": "dit.safetensors"},
        "sample": {"samplers": {"dit": sampler}, "images": 20},
        "probe": PROBE | {"taps": ["block_1"], "levels": [{"t": 121}]},
    }
    latents = {"views": TINY["latents"]["views"] | {"scale": 0.18215}}
    parts = {"autoencoders": TINY["autoencoders"], "latents": latents, "experiments": {"dit": experiment}}
    project = project_with(tmp_path / "p", PIXELS | parts)
    table = {"pos_embed": published.position_table(4, 4, torch.device("cpu"))}
    torch.save(published.state_dict() | table, project / "DiT.pt")
    command = [sys.executable, "-m", "diffprobe", "import", "--format", "dit", "DiT.pt", "--experiment", "dit"]
    process = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert process.returncode == 0 and "row 1000 of its label table" in process.stdout, process.stderr
    samples, grid = "results/runs/dit/samples/1/dit.zarr", "results/runs/dit/probe/1/grid.csv"
    done(project, f"{samples}/zarr.json", grid)
    assert open_samples(project / samples).read(0, 20).shape == (20, 8, 8, 1)
    assert set(pd.read_csv(project / grid)["tap"]) == {"block_1"}
    header = checkpoints.header(project / "results/runs/dit/checkpoints/1/ema.safetensors")
    assert header["latents"]["scale"] == pytest.approx([0.18215] * 4) and header["latents"]["image"] == [1, 8, 8]
    assert planned(project, grid) == {}


def test_two_trainers_never_share_a_folder(tmp_path: Path) -> None:
    """A job started while an orphan still trains waits for it, then finds the work done."""
    slow = json.loads(json.dumps(TINY))
    slow["experiments"]["tiny"]["train"]["checkpoints"] = [8]
    project = project_with(tmp_path / "twice", slow)
    done(project, "results/data/digits/images.h5")
    target = "results/runs/tiny/checkpoints/8/ema.safetensors"
    printed = run(project, "-n", "-p", target)
    line = re.search(r"job ('.*') train (.*)", printed.stdout + printed.stderr)
    assert line, printed.stdout + printed.stderr
    command = f"{sys.executable} -P workflow/scripts/train.py {line[1]} {line[2]}"
    first = subprocess.Popen(["bash", "-c", command], cwd=project, stderr=subprocess.PIPE, text=True)
    second = subprocess.Popen(["bash", "-c", command], cwd=project, stderr=subprocess.PIPE, text=True)
    said = first.communicate()[1] + second.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "waits for process" in said
    receipt = json.loads((project / "results/runs/tiny/checkpoints/8/receipt.json").read_text())
    assert receipt["from_step"] == receipt["to_step"] == 125  # the second trained nothing


def test_a_second_snakemake_is_refused_in_one_line_and_the_first_goes_on(tmp_path: Path) -> None:
    """And one that was killed is in nobody's way."""
    needed = ("dataset", "network", "process", "train", "sample")
    experiment = {key: TINY["experiments"]["tiny"][key] for key in needed}
    project = project_with(tmp_path / "project", PIXELS | {"experiments": {"tiny": experiment}})
    store = "results/data/digits/images.h5"
    (project / "results/logs/images").mkdir(parents=True)

    def first() -> subprocess.Popen:
        """Started, and come to its job, which waits for the lock."""
        process = subprocess.Popen(plain(store), cwd=project, stderr=subprocess.PIPE, text=True)
        said: list[str] = []
        while not said or "waits for process" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        return process

    with exclusive(project / "results/logs/images/digits.lock", lambda owner: None):
        killed = first()
        killed.kill()
        killed.wait()  # its job lives on, and waits too
        running = first()
        second = run(project, store)
        assert second.returncode == 1
        refusal = (
            f"{project}: process {running.pid}@{socket.gethostname()} already makes files that this command asks for"
        )
        (line,) = [line for line in second.stderr.splitlines() if "already makes" in line]
        assert line == f"{refusal}; wait for it, or stop it"
        assert "Traceback" not in second.stderr and "--unlock" not in second.stderr
        assert planned(project, store) == {"images": 1}  # a dry run is welcome
    said = running.communicate()[1]
    assert running.returncode == 0, said
    assert (project / store).exists()


def test_sources_that_are_lost_or_have_no_labels_cost_nothing(tmp_path: Path) -> None:
    """A folder read, then gone, mistyped, made to need labels that it lacks, and at last given them."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(12):
        (photos / f"{i}.ppm").write_bytes(b"P6 8 8 255\n" + bytes([i]) * 192)
    config = json.loads(json.dumps(TINY))
    config["datasets"]["mine"] = {"source": {"kind": "folder", "path": str(photos)}, "size": 8}
    project = project_with(tmp_path / "project", config)
    store = "results/data/mine/images.h5"
    done(project, store)

    def refused(*fragments: str) -> None:
        configure(project, config)
        process = run(project, store)
        assert process.returncode != 0 and (project / store).exists()
        assert "Traceback" not in process.stderr
        assert all(fragment in process.stderr for fragment in fragments), process.stderr

    photos.rename(tmp_path / "elsewhere")
    assert planned(project, store) == {}
    config["datasets"]["mine"]["source"]["path"] = str(tmp_path / "mistyped")
    refused("datasets.mine.source", "mistyped", "no such file or folder")
    (tmp_path / "elsewhere").rename(photos)
    config["datasets"]["mine"]["source"]["path"] = str(photos)
    config["extractors"]["other"] = {"kind": "classifier", "dataset": "mine"}
    refused("datasets.mine: no labels", "extractors.other.dataset")
    for name, part in (("a", range(6)), ("b", range(6, 12))):
        (photos / name).mkdir()
        for i in part:
            (photos / f"{i}.ppm").rename(photos / name / f"{i}.ppm")
    assert planned(project, store) == {"images": 1}
