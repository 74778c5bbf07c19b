"""The whole chain, from images to tables, on a tiny config: what it makes and refuses, and that kills do no harm."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from kills import KINDS, disturbed, hashes, jobs_of, plain, run
from toy_workflow import TINY, configure, done, planned, project_with

from diffprobe.config.load import load
from diffprobe.plan.graph import stages


def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    again = run(finished)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_moved_results_are_up_to_date(project: Path, tmp_path: Path) -> None:
    """The project as a whole (it is a copy of the finished one), then its results to other places."""
    assert planned(project) == {}
    before = project / "results"
    for results in ("elsewhere/made", str(tmp_path / "disk" / "made")):
        place = project / results
        place.parent.mkdir(parents=True)
        before = before.rename(place)
        configure(project, TINY | {"results": results})
        assert planned(project) == {}


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
    monitored = summary[(summary.experiment == "tiny") & (summary.evaluator == "uniformity")]
    assert list(monitored.kimg) == [3, 6] and monitored.value.max() < 0
    compared = summary[summary.evaluator == "cka_tiny_dit"]
    assert len(compared) == 1 and compared.kimg.item() == choice["kimg"]
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


def test_one_cell_one_checkpoint_and_one_seed_are_enough(project: Path) -> None:
    smallest = json.loads(json.dumps(TINY))
    smallest["experiments"]["tiny"]["train"]["checkpoints"] = [3]
    smallest["experiments"]["tiny"]["probe"] |= {"levels": [0.1], "taps": ["mid"], "seeds": [0]}
    configure(project, smallest)
    done(project)
    choice = json.loads((project / "results/runs/tiny/probe/choice.json").read_text())
    assert choice["tap"] == "mid" and choice["runner_up"] is None


def test_an_unknown_target_is_named_without_a_traceback(finished: Path) -> None:
    process = run(finished, "results/runs/nope/probe/choice.json")
    assert process.returncode != 0
    assert "nope" in process.stderr and "Traceback" not in process.stderr and "KeyError" not in process.stderr


def own(files: dict[str, str]) -> dict[str, str]:
    """What is of tiny_dit: neither tiny's files nor the tables of both."""
    tables = ("results/results.csv", "results/summary.csv")
    return {file: of for file, of in files.items() if "/runs/tiny/" not in file and file not in tables}


def test_kills_of_every_kind_change_nothing(finished: Path, tmp_path: Path) -> None:
    """A job, the whole group, Snakemake alone (its jobs live on), the terminal: the plain command recovers.

    Here in the work of one experiment; tests/kills.py does it with all of the demo.
    """
    project = project_with(tmp_path / "killed", TINY | {"experiments": {"tiny_dit": TINY["experiments"]["tiny_dit"]}})
    killed = disturbed(project, list(KINDS), longest=4, seed=1)
    assert len(killed) == len(KINDS)
    done(project)
    after_kills, undisturbed = (own(hashes(folder)) for folder in (project, finished))
    assert after_kills == undisturbed
    assert any("tiny_dit" in file for file in after_kills)
    assert not jobs_of(project)


def test_a_mistake_is_refused_before_any_job(project: Path) -> None:
    wrong = json.loads(json.dumps(TINY))
    wrong["experiments"]["tiny"]["probe"]["taps"] = ["out_9"]
    configure(project, wrong)
    process = run(project)
    assert process.returncode != 0
    assert "experiments.tiny.probe.taps" in process.stderr and "'out_9'" in process.stderr and "out_4" in process.stderr
    assert "Traceback" not in process.stderr and "Finished" not in process.stderr


def test_a_job_that_fails_says_why_in_one_line_and_leaves_nothing(project: Path) -> None:
    store = project / "results/data/digits/images.h5"
    store.write_bytes(b"damaged")
    process = run(project, "--until", "baseline", "--keep-going")
    assert process.returncode != 0
    log = (project / "results/logs/baseline/digits.log").read_text()
    assert re.fullmatch(r"error: .*images\.h5: not a readable image store .*\n", log)
    assert not (project / "results/data/digits/baseline.json").exists()
    assert json.loads((project / "results/logs/baseline/digits.json").read_text())["state"] == "failed"


def test_report_is_made_offline(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    process = run(finished, "--report", str(target))
    assert process.returncode == 0, process.stderr
    html = target.read_text()
    figures = ["samples/3.heun5.png", "strip/6.heun5.png", "grid/6.png", "losses.png", "curves.png", "results.csv"]
    figures += ["monitors/6.png", "monitor_curves.png", "similarity/6.png", "similarity_training.png"]
    for figure in (*figures, "similarity_experiments.png"):
        assert figure in html


def test_rules_and_commands_load_no_torch(finished: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from snakemake.cli import main; main(sys.argv[1:])"
    process = subprocess.run(
        [sys.executable, "-c", code, *plain("-n")[3:]], cwd=finished, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    code = "import sys; sys.modules['torch'] = None; from diffprobe.__main__ import main; main(['status'])"
    process = subprocess.run([sys.executable, "-c", code], cwd=finished, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "tiny" in process.stdout and "done" in process.stdout


def test_the_receipt_of_a_figure_says_how_it_came_about(finished: Path) -> None:
    receipt = json.loads((finished / "results/runs/tiny_dit/generation/2/guided.receipt.json").read_text())
    samples, figures = receipt["samples"], receipt["figures"]["small"]
    assert samples["images"] == figures["images"] == 20 and samples["seed"] == 0
    chosen, defaults = {"kind": "heun", "steps": 3, "guidance": 2.0}, {"rho": 7.0, "churn": 0.0, "clip": False}
    assert (chosen | defaults).items() <= samples["sampler"].items()
    assert samples["weights"] == {"name": "ema", "kind": "half_life", "kimg": 1.0, "ramp": 0.05}
    assert samples["checkpoint"] == receipt["inputs"]["weights"]["sha256"]
    assert figures["extractor"]["weights"] == receipt["inputs"]["weights.small"]["sha256"]
    assert figures["extractor"]["resize"] == "none"
    assert (figures["reference"]["origin"], figures["reference"]["images"]) == ("train+select", 1438)


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
    process = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert process.returncode == 1
    assert re.search(r"latents.zarr: seed is 0, but 5 is wanted", process.stderr) and "removed" not in process.stderr
