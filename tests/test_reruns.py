"""What a changed config, file or program makes anew in a finished project, and what it leaves alone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kills import hashes, run
from toy_workflow import TINY, configure, done, planned, planned_in

from diffprobe.config.load import load
from diffprobe.data.samples import open_samples
from diffprobe.plan.graph import stages


def test_what_changes_no_result_retrains_nothing(project: Path) -> None:
    for script in (project / "workflow" / "scripts").glob("*.py"):
        script.write_text(script.read_text() + "\n# a comment\n")
    rules = project / "rules" / "common.smk"
    assert 'JOB = "job ' in rules.read_text()
    rules.write_text(rules.read_text().replace('JOB = "job ', 'JOB = "job  '))
    (project / "results/runs/tiny/states/.3.99.part.safetensors").write_bytes(b"half")  # left by a kill
    reordered = json.loads(json.dumps(TINY, sort_keys=True))
    reordered["state"] = {"keep": "all", "autosave_seconds": 60}
    configure(project, reordered)
    assert planned(project) == {}


def test_more_encoding_jobs_leave_what_is_made_of_the_store(project: Path) -> None:
    """The store itself is completed anew, with the same bytes; then there is nothing else to be done."""
    shared = json.loads(json.dumps(TINY))
    shared["latents"]["views"] |= {"jobs": 3, "batch": 32}
    configure(project, shared)
    before = (project / "results/latents/views/latents.zarr/zarr.json").read_bytes()
    plan = planned(project, "results/latents/views/latents.zarr/zarr.json")
    assert plan == {"encode": 2, "latents": 1}
    done(project, "results/latents/views/latents.zarr/zarr.json")
    assert (project / "results/latents/views/latents.zarr/zarr.json").read_bytes() == before
    assert planned(project) == {}


def test_a_plot_option_redraws_and_nothing_else(project: Path) -> None:
    configure(project, TINY | {"report": {"columns": 8}})
    assert planned(project) == {"plots": 1, "plots_2": 1, "plot_reconstruction": 1}


def test_new_features_are_scored_anew_even_after_a_stop(project: Path) -> None:
    changed = json.loads(json.dumps(TINY))
    changed["experiments"]["tiny"]["train"]["lr"] = 5e-4
    configure(project, changed)
    done(project, "results/runs/tiny/features/3/0.receipt.json")
    plan = planned(project)
    assert (plan["grid"], plan["choice"], plan["chosen"], plan["evaluate"]) == (2, 1, 1, 2)


def test_another_experiment_leaves_the_first_alone(project: Path) -> None:
    other = json.loads(json.dumps(TINY["experiments"]["tiny"]))
    other["train"]["lr"] = 5e-4
    # Features that another map needs are temporary: they would be computed again, and so would the maps of `tiny`.
    del other["probe"]["similarity"]
    configure(project, TINY | {"experiments": TINY["experiments"] | {"other": other}})
    process = run(project, "-n")
    assert planned_in(process.stdout + process.stderr)["pretrain"] == 2
    assert not re.search(r"experiment=tiny\b", process.stdout)


def test_raising_the_last_checkpoint_trains_only_the_new_slice(project: Path) -> None:
    raised = json.loads(json.dumps(TINY))
    raised["experiments"]["tiny"]["train"]["checkpoints"] = [3, 6, 8]
    configure(project, raised)
    plan = planned(project)
    assert (plan["pretrain"], plan["features"], plan["sample"]) == (1, 1, 1)
    done(project, "--until", "pretrain")
    receipt = json.loads((project / "results/runs/tiny/checkpoints/8/receipt.json").read_text())
    assert (receipt["from_step"], receipt["to_step"]) == (94, 125)


def test_deleted_and_damaged_outputs_are_made_again_and_come_out_the_same(project: Path) -> None:
    files = {
        "results/runs/tiny/checkpoints/3/ema.safetensors": "pretrain",
        "results/runs/tiny/features/chosen/features.json": "chosen",
        "results/runs/tiny/probe/choice.json": "choice",
        "results/latents/views/latents.zarr/zarr.json": "latents",
        "results/runs/tiny_dit/generation/2/guided.json": "generate",
    }
    before = hashes(project)
    chunk = project / "results/runs/tiny/samples/6/heun5.zarr/images/c/0/0/0/0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    for more in ([], ["--repair"]):
        command = [sys.executable, "-m", "diffprobe", "verify", *more]
        process = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert process.returncode == 1 and "heun5.zarr" in process.stderr and "Traceback" not in process.stderr
    for file in files:
        (project / file).unlink()
    assert {"sample", *files.values()} <= planned(project).keys()
    done(project)
    assert all((project / file).exists() for file in files)
    assert hashes(project) == before
    assert planned(project) == {}


def test_how_training_is_divided_retrains_nothing_and_two_devices_train(project: Path) -> None:
    divided = json.loads(json.dumps(TINY))
    divided["experiments"]["tiny_dit"]["train"] |= {"devices": 2, "device_batch": 20, "compile": "never"}
    configure(project, divided)
    assert planned(project) == {}
    shutil.rmtree(project / "results/runs/tiny_dit/checkpoints")
    shutil.rmtree(project / "results/runs/tiny_dit/states")
    done(project, "results/runs/tiny_dit/checkpoints/2/receipt.json")
    receipt = json.loads((project / "results/runs/tiny_dit/checkpoints/2/receipt.json").read_text())
    assert receipt["processes"] == 2 and receipt["from_step"] == 0


def test_a_dry_run_says_from_where_a_checkpoint_is_remade(project: Path) -> None:
    states = project / "results/runs/tiny/states"
    assert [path.name for path in states.iterdir()] == ["6.safetensors"]
    (states / "6.safetensors").unlink()
    (project / "results/runs/tiny/checkpoints/6/ema.safetensors").unlink()
    assert "tiny: checkpoint 6 is retrained from 0 thousand images" in run(project, "-n").stderr


def test_every_rule_can_be_forced(finished: Path) -> None:
    rules = dict.fromkeys(stage.rule for stage in stages(load(finished / "config" / "config.yaml")))
    plan = planned(finished, "--forcerun", *rules)
    assert set(plan) == set(rules)


def test_what_is_kept_changes_no_figure(project: Path) -> None:
    """Measured as they are drawn, or from the store of all: the same figures, and the same first images."""
    at_once = json.loads((project / "results/runs/tiny_dit/generation/2/guided.json").read_text())["rows"]
    first = open_samples(project / "results/runs/tiny_dit/samples/2/guided.zarr").read(0, 8)
    keeping = json.loads(json.dumps(TINY))
    keeping["experiments"]["tiny_dit"]["sample"]["keep_samples"] = "all"
    configure(project, keeping)
    done(project, "results/runs/tiny_dit/generation/2/guided.json")
    after = json.loads((project / "results/runs/tiny_dit/generation/2/guided.json").read_text())["rows"]
    store = open_samples(project / "results/runs/tiny_dit/samples/2/guided.zarr")
    assert store.shape == (20, 8, 8, 1) and np.array_equal(store.read(0, 8), first)
    assert [row["evaluator"] for row in after] == [row["evaluator"] for row in at_once]
    assert [row["value"] for row in after] == pytest.approx([row["value"] for row in at_once], rel=1e-9)


def test_references_are_computed_once_for_all(project: Path) -> None:
    reference = project / "results/data/digits/reference/small.npz"
    before = reference.read_bytes()
    (kept,) = (project / "results/references").glob("*.npz")
    reference.unlink()
    done(project, str(reference.relative_to(project)))
    assert reference.read_bytes() == before
    assert f"uses results/references/{kept.name}" in (project / "results/logs/reference/digits.small.log").read_text()
