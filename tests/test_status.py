"""`status` reports the state that each stage's files record."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.plan.graph import Stage, stages
from diffprobe.reporting import status
from diffprobe.reporting import watch as watching
from diffprobe.reporting.status_json import PROGRESS, as_json
from diffprobe.runtime.code_hashes import module_hash
from diffprobe.runtime.files import write_json
from diffprobe.runtime.places import project_file

SOURCE = "src/diffprobe/runtime/files.py"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two checkpoints of one experiment, and one run of another."""
    network = {"kind": "unet", "channels": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8}
    experiment = {
        "dataset": "digits",
        "network": network,
        "process": {"kind": "edm"},
        "train": {"checkpoints": [36, 72]},
        "sample": {"samplers": {"heun18": {"kind": "heun"}}},
        "generation": {"extractors": ["small"]},
        "probe": {"levels": [0.1]},
    }
    return parse(
        {
            "results": str(tmp_path / "results"),
            "datasets": {"digits": {"source": {"kind": "digits"}}},
            "extractors": {"small": {"kind": "classifier", "dataset": "digits"}},
            "experiments": {"first": experiment, "second": experiment | {"train": {"checkpoints": [36]}}},
        }
    )


def find(config: Config, rule: str, subject: str, kimg: int | None = None) -> Stage:
    (stage,) = [s for s in stages(config) if (s.rule, s.subject, s.kimg) == (rule, subject, kimg)]
    return stage


def state_of(config: Config, stage: Stage) -> status.StageState:
    (state,) = [state for state in status.collect(config) if state.stage == stage]
    return state


def make(stage: Stage, code: dict[str, str] | None = None) -> None:
    """Every file that the stage declares, as if just written."""
    for file in stage.outputs:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    if stage.receipt:
        write_json(stage.receipt, {"code": code or {}})


def report(stage: Stage, state: str, pid: int, after: float = 1.0) -> None:
    """A progress file as a job leaves it, `after` seconds from now."""
    log = Path(stage.progress).parent / "job.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"line {i}\n\n" for i in range(9)) + "error: no [red] disk left\n")
    counts = {"done": 25, "total": 100, "unit": "images", "rate": 1234.5, "seconds_left": 65.0}
    process = {"pid": pid, "host": socket.gethostname(), "started": 0, "updated": time.time() + after}
    about = {"job": "x", "state": state, "note": "", "log": str(log)}
    write_json(stage.progress, about | counts | process)


def shown(config: Config) -> str:
    out = io.StringIO()
    status.show(config, console=Console(file=out, width=120))
    return out.getvalue()


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_when_nothing_has_run_all_is_waiting(config: Config) -> None:
    states = status.collect(config)
    assert [state.stage for state in states] == stages(config)
    assert {state.state for state in states} == {"waiting"}
    assert "waiting" in shown(config)


def test_when_all_is_made_all_is_done(config: Config) -> None:
    for stage in stages(config):
        make(stage)
    assert {state.state for state in status.collect(config)} == {"done"}
    assert "waiting" not in shown(config)


def test_a_deleted_output_is_waiting_again(config: Config) -> None:
    stage = find(config, "sample", "first", 36)
    make(stage)
    report(stage, "done", os.getpid())
    assert state_of(config, stage).state == "done"
    Path(stage.outputs[1]).unlink()
    assert state_of(config, stage).state == "waiting"


def test_training_progress_belongs_to_the_first_unfinished_slice(config: Config) -> None:
    first, second = (find(config, "pretrain", "first", kimg) for kimg in (36, 72))
    report(first, "running", os.getpid())
    assert (state_of(config, first).state, state_of(config, second).state) == ("running", "waiting")
    make(first)
    report(second, "running", os.getpid())
    assert (state_of(config, first).state, state_of(config, second).state) == ("done", "running")
    assert state_of(config, find(config, "pretrain", "second", 36)).state == "waiting"
    text = shown(config)
    assert "25%" in text and "1,23" in text and "images/s" in text and "1m05s" in text


def test_a_vanished_process_is_killed_and_its_log_is_quoted(config: Config, dead: int) -> None:
    stage = find(config, "features", "first", 36)
    report(stage, "running", dead)
    killed = state_of(config, stage)
    assert killed.state == "killed"
    assert killed.tail == ("line 6", "line 7", "line 8", "error: no [red] disk left")
    assert "killed: features first 36" in shown(config) and "error: no [red] disk left" in shown(config)


@pytest.mark.parametrize(("after", "state"), [(1.0, "failed"), (-100.0, "done")])
def test_a_failure_counts_where_it_is_younger_than_the_outputs(config: Config, after: float, state: str) -> None:
    stage = find(config, "grid", "first", 36)
    make(stage)
    report(stage, "failed", os.getpid(), after)
    assert state_of(config, stage).state == state


def test_a_stopped_training_is_no_failure(config: Config) -> None:
    stage = find(config, "pretrain", "first", 36)
    report(stage, "stopped", os.getpid())
    assert state_of(config, stage).state == "stopped"


def test_older_code_is_named_and_present_code_is_not(config: Config) -> None:
    stage, other = find(config, "grid", "first", 36), find(config, "grid", "first", 72)
    make(stage, {SOURCE: "0" * 12, "src/diffprobe/gone.py": "0" * 12})
    make(other, {SOURCE: module_hash(str(project_file(SOURCE)))})
    assert state_of(config, stage).older == (SOURCE, "src/diffprobe/gone.py")
    assert state_of(config, other).older == ()
    assert state_of(config, other).state == state_of(config, stage).state == "done"
    assert f"older code: {SOURCE} (in grid)" in shown(config)


def test_checkpoints_of_the_older_augmentation_are_marked(config: Config) -> None:
    old, new, other = find(config, "pretrain", "first", 36), find(config, "pretrain", "first", 72), "second"
    augmented = {"code": {}, "config": {"train": {"augment": {"p": 0.12}}}}
    for stage, receipt in (
        (old, augmented),
        (new, augmented | {"augmentation": "2"}),
        (find(config, "pretrain", other, 36), {"code": {}, "config": {"train": {"augment": None}}}),
    ):
        make(stage)
        write_json(stage.receipt, receipt)
    (line,) = [line for line in shown(config).splitlines() if "older augmentation" in line]
    assert line.startswith("older augmentation: first, 36 kimg")


def test_what_is_of_a_dataset_stands_with_the_data(config: Config) -> None:
    subjects = {stage.subject for stage in stages(config) if stage.subject and stage.rule not in status.SHARED}
    assert subjects == set(config.experiments)


def test_the_plots_of_an_experiment_are_one_job(config: Config) -> None:
    (stage,) = [stage for stage in stages(config) if stage.rule == "plots" and stage.subject == "first"]
    make(stage)
    (line,) = [line for line in shown(config).splitlines() if "plots" in line and "done" in line]
    assert line.split() == ["plots", "done"]


def test_json_has_the_same_keys_whatever_the_state(config: Config, dead: int) -> None:
    running, killed, made = (find(config, rule, "first", 36) for rule in ("pretrain", "features", "grid"))
    report(running, "running", os.getpid())
    report(killed, "running", dead)
    make(made, {SOURCE: "0" * 12})
    told = json.loads(as_json(config))
    assert told["version"] == 1 and told["results"] == config.results and abs(told["time"] - time.time()) < 60
    expected = {"done": 1, "running": 1, "waiting": len(stages(config)) - 3, "stopped": 0, "failed": 0, "killed": 1}
    assert told["counts"] == expected
    keys = {"rule", "subject", "kimg", "outputs", "state", "progress", "log_tail", "older_code", "older_augmentation"}
    assert all(entry.keys() == keys for entry in told["stages"])
    entries = {tuple(entry["outputs"]): entry for entry in told["stages"]}
    assert len(entries) == len(stages(config))  # the outputs tell stages apart
    progress = entries[running.files]["progress"]
    assert (progress["done"], progress["total"], progress["unit"], progress["rate"]) == (25, 100, "images", 1234.5)
    assert progress["seconds_left"] == 65 and progress["pid"] == os.getpid()
    assert entries[killed.files]["log_tail"][-1] == "error: no [red] disk left"
    assert entries[made.files]["older_code"] == [SOURCE] and entries[made.files]["progress"] is None


def test_the_documented_keys_are_those_of_the_json(config: Config) -> None:
    page = (Path(__file__).parents[1] / "docs" / "running.md").read_text()
    told = json.loads(as_json(config))
    for key in (*told, *told["counts"], *told["stages"][0], *PROGRESS):
        assert f"`{key}`" in page, key


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_ends_when_all_is_made(config: Config, terminal: bool) -> None:
    """Outside a terminal a line says what has changed, and only that."""
    out, every = io.StringIO(), stages(config)
    make(every[0])
    report(find(config, "pretrain", "first", 36), "running", os.getpid(), after=-100)
    looks = []

    def later(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 5
        if len(looks) == 2:
            for stage in every:
                make(stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching.time, "sleep", later)
        watching.watch(config, Console(file=out, width=120, force_terminal=terminal))
    assert len(looks) == 2
    lines = out.getvalue().splitlines()
    if not terminal:
        assert len(lines) == len(every) + 1  # each stage is done once, and one was seen to run
        assert lines[0].endswith(f"{status.name_of(every[0])}  done")
        assert "pretrain first 36  running 25%  1,234 images/s  left 1m05s" in lines[1] or "1,235" in lines[1]


def test_a_stop_ends_watching_with_its_status(config: Config, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    command = [sys.executable, "-m", "diffprobe", "status", "--watch", "--configfile", str(tmp_path / "c.yaml")]
    make(stages(config)[0])
    watcher = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert watcher.stdout and "done" in watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    said = watcher.communicate()[1]
    assert watcher.returncode == 130 and said.startswith("stopped by SIGINT") and said.count("\n") == 1


def test_status_needs_none_of_the_heavy_packages() -> None:
    heavy = ("torch", "pandas", "matplotlib", "snakemake", "sklearn")
    code = f"import sys, diffprobe.reporting.status; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
