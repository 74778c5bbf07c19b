"""`diffprobe run` says to Snakemake what was asked, and reports when everything is there."""

from pathlib import Path

import pytest

from diffprobe import running
from diffprobe.__main__ import main
from diffprobe.config.load import load
from diffprobe.plan.graph import stages
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


def test_a_part_of_a_project_is_not_reported(calls: list[list[str]]) -> None:
    """Snakemake's report needs all figures; the table is there from a run before an experiment was added."""
    table = Path("results/results.csv")
    table.parent.mkdir()
    table.touch()
    main(["run", DEMO, "--", "--until", "images"])
    assert [call[-2:] for call in calls] == [["--until", "images"]]
    for file in (file for stage in stages(load(DEMO)) for file in stage.files):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    main(["run", DEMO, "--", "--keep-going"])
    assert [("--report" in call, call[-1]) for call in calls[1:]] == [(False, "--keep-going"), (True, "--quiet")]


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
