"""`diffprobe run` says to Snakemake what was asked, and reports when everything is there."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from toy_probing import EXPERIMENT

from diffprobe import running
from diffprobe.__main__ import main
from diffprobe.config.load import load
from diffprobe.plan.graph import stages
from diffprobe.plan.layout import Layout
from diffprobe.runtime.places import WORKFLOW

DEMO = str(WORKFLOW / "config/config.yaml")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of Snakemake, each of which succeeds."""
    made: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "call", lambda command: made.append(command) or 0)
    monkeypatch.setattr(running, "show_results", lambda config: None)
    return made


def test_a_part_of_a_project_is_not_reported(calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of all results may be there, from a run with another config."""
    for file in (file for stage in stages(load(DEMO)) for file in stage.files):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    main(["run", DEMO, "--", "--until", "images"])  # a dry run finds the archives missing, to begin with
    assert [call[-2:] for call in calls] == [["--until", "images"]]
    planned: list[list[str]] = []
    done = subprocess.CompletedProcess([], 0, "Nothing to be done (all requested files are present and up to date).")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: planned.append(command) or done)
    main(["run", DEMO, "--", "--keep-going", "--rerun-triggers", "mtime"])
    assert [("--report" in call, call[-1]) for call in calls[1:]] == [(False, "mtime"), (True, "--quiet")]
    assert planned[0][-2:] == ["--rerun-triggers", "mtime"] and "--keep-going" not in planned[0]


def test_a_missing_folder_of_images_is_named_before_any_job(
    calls: list[list[str]], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    experiment = EXPERIMENT | {"dataset": "mine"}
    source = {"kind": "folder", "path": "nowhere"}
    content = {"datasets": {"mine": {"source": source, "size": 8}}, "experiments": {"one": experiment}}
    Path("mine.yaml").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as end:
        main(["run", "mine.yaml"])
    assert end.value.code == 1 and not calls
    assert capsys.readouterr().err == "datasets.mine: nowhere: no such folder; check the path\n"
    Path("results/data/mine").mkdir(parents=True)
    Path("results/data/mine/images.h5").touch()  # imported before
    main(["run", "mine.yaml", "-n"])
    assert len(calls) == 1


def test_repeats_of_an_earlier_run_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(f"{WORKFLOW}/config/positions.yaml")
    layout = Layout(config.results)
    Path(config.results).mkdir(parents=True)
    for table in (layout.results_table(), layout.summary(), layout.repeats_table()):
        Path(table).write_text("experiment\nx\n")
    running.show_results(config)
    assert "older" not in capsys.readouterr().out
    before = Path(layout.summary()).stat().st_mtime - 60
    os.utime(layout.repeats_table(), (before, before))
    running.show_results(config)
    assert f"{layout.repeats_table()} is older than {layout.summary()}, and is not shown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--config", "only=[]"], "name a further config"),
        (["-k", "--configfile", "mine.yaml"], "name a further config"),
        (["--directory=below"], "change into that folder first"),
        (["-s", "mine.smk"], "call snakemake itself"),
        (["-Conly=[]"], "name a further config"),
        (["--direct", "below"], "change into that folder first"),
    ],
)
def test_options_that_would_replace_its_own_are_refused(
    calls: list[list[str]], capsys: pytest.CaptureFixture, words: list[str], remedy: str
) -> None:
    """Of two options --config Snakemake takes the later, so --only would be lost without a word."""
    with pytest.raises(SystemExit) as end:
        main(["run", DEMO, "--only", "digits_edm", "--", *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and remedy in line and not calls
