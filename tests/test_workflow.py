"""The whole chain, from images to tables, on a tiny config: what a user relies on when running it again."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kills import KINDS, disturbed, hashes, jobs_of, plain, run
from toy_workflow import TINY, configure, done, planned, project_with

from diffprobe.config.load import load
from diffprobe.data.samples import open_samples
from diffprobe.plan.graph import stages


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose main job is done. Tests that change it work on a copy."""
    project = project_with(tmp_path_factory.mktemp("flow") / "finished", TINY)
    done(project)
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of one's own."""
    return shutil.copytree(finished, tmp_path / "project", copy_function=shutil.copy2)


def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    again = run(finished)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_every_declared_file_is_kept_and_every_job_leaves_log_benchmark_and_receipt(finished: Path) -> None:
    config = load(finished / "config" / "config.yaml")
    for stage in stages(config):
        for file in stage.files:
            assert (finished / file).stat().st_size > 0, file
        if stage.receipt:
            receipt = json.loads((finished / stage.receipt).read_text())
            assert {"config", "inputs", "code", "packages", "device", "seconds", "peak_memory_mib"} <= receipt.keys()
            assert any(name.startswith("workflow/scripts") for name in receipt["code"])
    jobs = len(stages(config))
    assert len(list((finished / "results" / "logs").glob("*/*.log"))) == jobs
    assert len(list((finished / "results" / "benchmarks").glob("*/*.jsonl"))) == jobs
    benchmark = json.loads((finished / "results/benchmarks/pretrain/tiny.6.jsonl").read_text())
    assert benchmark["max_rss"] > 200  # MB: the job's process is counted, though it is the fork server's child


def test_summary_has_one_row_per_figure_and_test_is_read_for_the_choice_only(finished: Path) -> None:
    summary = pd.read_csv(finished / "results" / "summary.csv")
    assert not summary.duplicated(["experiment", "kimg", "evaluator", "split", "sampler"]).any()
    choice = json.loads((finished / "results/runs/tiny/probe/choice.json").read_text())
    test = summary[(summary.split == "test") & (summary.experiment == "tiny")]
    assert set(test.evaluator) == {"linear", "knn"}
    assert set(test.kimg) == {choice["kimg"]} and set(test.tap) == {choice["tap"]}
    select = summary[(summary.split == "select") & (summary.evaluator == "linear")]
    assert set(select[select.experiment == "tiny"].kimg) == {3, 6}
    assert set(summary[summary.experiment == "tiny_dit"].evaluator) == {
        "linear",
        "logistic",
        "fd20_classifier",
        "is20_classifier",
    }
    assert set(summary[summary.evaluator == "psnr"].latents) == {"views"}
    names = set(summary[(summary.experiment == "tiny") & summary.sampler.notna()].evaluator)
    figures = ("fd", "kid", "is", "precision", "recall", "density", "coverage")
    assert names == {f"{figure}40_classifier" for figure in figures} | {"memorised40_pixels", "nearest_ratio40_pixels"}
    real = summary[summary.evaluator.str.endswith("_pixels") & summary.experiment.isna()]
    assert set(real.dataset) == {"digits"} and len(real) == 2


def test_what_changes_no_result_retrains_nothing(project: Path) -> None:
    for script in (project / "workflow" / "scripts").glob("*.py"):
        script.write_text(script.read_text() + "\n# a comment\n")
    rules = project / "rules" / "training.smk"
    rules.write_text(rules.read_text().replace('"job train', '"job  train'))
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
    assert {rule for rule in planned(project) if not rule.startswith("plot_")} == set()
    assert planned(project)["plot_samples"] == 3 and planned(project)["plot_nearest"] == 2


def test_new_features_are_scored_anew_even_after_a_stop(project: Path) -> None:
    changed = json.loads(json.dumps(TINY))
    changed["experiments"]["tiny"]["train"]["lr"] = 5e-4
    configure(project, changed)
    done(project, "--until", "features")
    plan = planned(project)
    assert (plan["grid"], plan["choice"], plan["chosen"], plan["evaluate"]) == (2, 1, 1, 2)


def test_one_cell_one_checkpoint_and_one_seed_are_enough(project: Path) -> None:
    smallest = json.loads(json.dumps(TINY))
    smallest["experiments"]["tiny"]["train"]["checkpoints"] = [3]
    smallest["experiments"]["tiny"]["probe"] |= {"levels": [0.1], "taps": ["mid"], "seeds": [0]}
    configure(project, smallest)
    done(project)
    choice = json.loads((project / "results/runs/tiny/probe/choice.json").read_text())
    assert choice["tap"] == "mid" and choice["runner_up"] is None


def test_a_half_written_state_stops_no_start(project: Path) -> None:
    (project / "results/runs/tiny/states/.3.99.part.safetensors").write_bytes(b"half")
    assert planned(project) == {}


def test_an_unknown_target_is_named_without_a_traceback(finished: Path) -> None:
    found = run(finished, "results/runs/nope/probe/choice.json")
    assert found.returncode != 0
    assert "nope" in found.stderr and "Traceback" not in found.stderr and "KeyError" not in found.stderr


def test_another_experiment_leaves_the_first_alone(project: Path) -> None:
    other = json.loads(json.dumps(TINY["experiments"]["tiny"]))
    other["train"]["lr"] = 5e-4
    configure(project, TINY | {"experiments": TINY["experiments"] | {"other": other}})
    assert planned(project)["pretrain"] == 2
    assert not re.search(r"experiment=tiny\b", run(project, "-n").stdout)


def test_raising_the_last_checkpoint_trains_only_the_new_slice(project: Path) -> None:
    raised = json.loads(json.dumps(TINY))
    raised["experiments"]["tiny"]["train"]["checkpoints"] = [3, 6, 8]
    configure(project, raised)
    plan = planned(project)
    assert (plan["pretrain"], plan["features"], plan["sample"]) == (1, 1, 1)
    done(project, "--until", "pretrain")
    receipt = json.loads((project / "results/runs/tiny/checkpoints/8/receipt.json").read_text())
    assert (receipt["from_step"], receipt["to_step"]) == (94, 125)


@pytest.mark.parametrize(
    "files",
    [
        {
            "results/runs/tiny/checkpoints/3/ema.safetensors": "pretrain",
            "results/runs/tiny/features/chosen/features.json": "chosen",
            "results/runs/tiny/probe/choice.json": "choice",
        },
        {
            "results/latents/views/latents.zarr/zarr.json": "latents",
            "results/runs/tiny_dit/generation/2/guided.json": "generate",
        },
    ],
    ids=["pixels", "latents"],
)
def test_deleted_outputs_are_made_again_and_come_out_the_same(project: Path, files: dict[str, str]) -> None:
    before = hashes(project)
    for file, rule in files.items():
        aside = (project / file).rename(project / "aside")
        assert rule in planned(project)
        aside.rename(project / file)
    for file in files:
        (project / file).unlink()
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
    assert "tiny: checkpoint 6 is remade from 0 thousand images on" in run(project, "-n").stderr


def test_every_rule_can_be_forced(finished: Path) -> None:
    rules = dict.fromkeys(stage.rule for stage in stages(load(finished / "config" / "config.yaml")))
    plan = planned(finished, "--forcerun", *rules)
    assert set(plan) == set(rules)


def own(found: dict[str, str]) -> dict[str, str]:
    """What is of tiny_dit: neither tiny's files nor the tables of both."""
    tables = ("results/results.csv", "results/summary.csv")
    return {file: of for file, of in found.items() if "/runs/tiny/" not in file and file not in tables}


def test_kills_of_every_kind_change_nothing(finished: Path, tmp_path: Path) -> None:
    """A job, the whole group, Snakemake alone (its jobs live on), the terminal: the plain command recovers.

    Here in the work of one experiment; tests/kills.py does it with all of the demo.
    """
    project = project_with(tmp_path / "killed", TINY | {"experiments": {"tiny_dit": TINY["experiments"]["tiny_dit"]}})
    killed = disturbed(project, list(KINDS), longest=9, seed=1)
    assert len(killed) == len(KINDS)
    done(project)
    found, expected = (own(hashes(folder)) for folder in (project, finished))
    assert found == expected
    assert any("tiny_dit" in file for file in found)
    assert not jobs_of(project)


def test_a_mistake_is_refused_before_any_job(project: Path) -> None:
    wrong = json.loads(json.dumps(TINY))
    wrong["experiments"]["tiny"]["probe"]["taps"] = ["out_9"]
    configure(project, wrong)
    found = run(project)
    assert found.returncode != 0
    assert "experiments.tiny.probe.taps" in found.stderr and "'out_9'" in found.stderr and "out_4" in found.stderr
    assert "Traceback" not in found.stderr and "Finished" not in found.stderr


def test_a_job_that_fails_says_why_in_one_line_and_leaves_nothing(project: Path) -> None:
    store = project / "results/data/digits/images.h5"
    store.write_bytes(b"damaged")
    found = run(project, "--until", "baseline", "--keep-going")
    assert found.returncode != 0
    log = (project / "results/logs/baseline/digits.log").read_text()
    assert re.fullmatch(r"error: .*images\.h5: not a readable image store .*\n", log)
    assert not (project / "results/data/digits/baseline.json").exists()
    assert json.loads((project / "results/logs/baseline/digits.json").read_text())["state"] == "failed"


def test_report_is_made_offline(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    found = run(finished, "--report", str(target))
    assert found.returncode == 0, found.stderr
    html = target.read_text()
    for figure in ("samples/3.heun5.png", "strip/6.heun5.png", "grid/6.png", "losses.png", "curves.png", "results.csv"):
        assert figure in html


def test_rules_and_commands_load_no_torch(finished: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from snakemake.cli import main; main(sys.argv[1:])"
    found = subprocess.run([sys.executable, "-c", code, *plain("-n")[3:]], cwd=finished, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    code = "import sys; sys.modules['torch'] = None; from diffprobe.__main__ import main; main(['status'])"
    found = subprocess.run([sys.executable, "-c", code], cwd=finished, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "tiny" in found.stdout and "done" in found.stdout


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


def test_the_receipt_of_a_figure_says_how_it_came_about(finished: Path) -> None:
    receipt = json.loads((finished / "results/runs/tiny_dit/generation/2/guided.receipt.json").read_text())
    samples, figures = receipt["samples"], receipt["figures"]["small"]
    assert samples["images"] == figures["images"] == 20 and samples["seed"] == 0
    asked, given = {"kind": "heun", "steps": 3, "guidance": 2.0}, {"rho": 7.0, "churn": 0.0, "clip": False}
    assert (asked | given).items() <= samples["sampler"].items()
    assert samples["weights"] == {"name": "ema", "kind": "half_life", "kimg": 1.0, "ramp": 0.05}
    assert samples["checkpoint"] == receipt["inputs"]["weights"]["sha256"]
    assert figures["extractor"]["weights"] == receipt["inputs"]["weights.small"]["sha256"]
    assert figures["extractor"]["resize"] == "none"
    assert (figures["reference"]["origin"], figures["reference"]["images"]) == ("train+select", 1438)


def test_references_are_computed_once_for_all(project: Path) -> None:
    reference = project / "results/data/digits/reference/small.npz"
    before = reference.read_bytes()
    (kept,) = (project / "results/references").glob("*.npz")
    reference.unlink()
    done(project, str(reference.relative_to(project)))
    assert reference.read_bytes() == before
    assert f"takes results/references/{kept.name}" in (project / "results/logs/reference/digits.small.log").read_text()


def test_samples_for_other_tools_on_request(project: Path) -> None:
    folder = project / "results/runs/tiny/samples/3"
    done(project, *(str((folder / name).relative_to(project)) for name in ("heun5.npz", "heun5.png")))
    images = np.load(folder / "heun5.npz")["arr_0"]
    assert images.shape == (40, 8, 8, 3) and images.dtype == np.uint8  # ADM's suite takes colour
    assert len(list((folder / "heun5.png").glob("*.png"))) == 40
    assert planned(project) == {}


def test_a_store_that_is_not_what_the_config_asks_for_is_named(project: Path) -> None:
    other = json.loads(json.dumps(TINY))
    other["latents"]["views"]["seed"] = 5
    configure(project, other)
    command = [sys.executable, "-m", "diffprobe", "verify"]
    found = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert found.returncode == 1
    assert re.search(r"latents.zarr: seed is 0, but 5 is wanted", found.stderr) and "removed" not in found.stderr


def test_damaged_samples_are_found_and_drawn_again(project: Path) -> None:
    before = hashes(project)
    chunk = project / "results/runs/tiny/samples/6/heun5.zarr/images/c/0/0/0/0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    for more in ([], ["--repair"]):
        command = [sys.executable, "-m", "diffprobe", "verify", *more]
        found = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert found.returncode == 1 and "heun5.zarr" in found.stderr and "Traceback" not in found.stderr
    done(project)
    assert hashes(project) == before
