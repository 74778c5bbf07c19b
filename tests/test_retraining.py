"""What a changed list of checkpoints trains again is said before it is."""

import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from toy_probing import EXPERIMENT

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.plan import job_arguments
from diffprobe.plan.layout import Layout
from diffprobe.plan.preflight import retraining
from diffprobe.runtime.files import write_json, write_jsonl
from diffprobe.training.slices import Slice, earlier_rows


def config(*checkpoints: int) -> Config:
    experiment = EXPERIMENT | {"train": {"checkpoints": checkpoints}, "generation": None, "probe": None}
    return parse({"datasets": {"digits": {"source": {"kind": "digits"}}}, "experiments": {"one": experiment}})


def test_a_finished_checkpoint_that_would_be_trained_again_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout("results")
    for before, kimg in ((0, 10), (10, 20), (20, 40)):
        inputs = {"before": {"path": layout.ema("one", before)}} if before else {}
        path = Path(layout.ema("one", kimg))
        path.parent.mkdir(parents=True)
        path.touch()
        write_json(path.with_name("receipt.json"), {"inputs": inputs})
        state = Path(layout.state(layout.run("one"), kimg))
        state.parent.mkdir(exist_ok=True)
        state.touch()
    for kept in ((10, 20, 40), (10, 20, 40, 80), (10, 20), (10,)):
        assert list(retraining(config(*kept))) == []
    (line,) = retraining(config(40))
    assert "checkpoint 40 is there, but trained from 20, and will be trained again from the start" in line
    (line,) = retraining(config(10, 20, 30, 40))
    assert "checkpoint 40 is there, but trained from 20, and will be trained again from 30" in line
    assert "as will be those after it" in line
    (line,) = retraining(config(20, 40))
    assert "checkpoint 20 " in line
    shutil.rmtree(Path(layout.ema("one", 10)).parent)
    (line,) = retraining(config(20, 40))
    assert "checkpoint 20 " in line


def test_results_of_another_config_are_named_where_snakemake_has_forgotten_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = config(10)
    layout, argument = Layout(project.results), job_arguments.pretrain(project, project.experiments["one"])
    folder = Path(layout.ema("one", 10)).parent
    folder.mkdir(parents=True)
    (folder / "ema.safetensors").touch()
    write_json(folder / "receipt.json", {"config": argument})
    assert list(retraining(project)) == []
    write_json(folder / "receipt.json", {"config": argument | {"task": "other"}})
    (line,) = retraining(project)
    assert "one: checkpoint 10 was trained with other settings" in line and "--forcerun pretrain" in line
    Path(".snakemake/metadata").mkdir(parents=True)  # by any call, dry runs too
    assert len(list(retraining(project))) == 1
    record = urlsafe_b64encode(str(folder / "ema.safetensors").encode()).decode()
    Path(".snakemake/metadata", record).touch()
    assert list(retraining(project)) == []  # Snakemake compares for itself


def test_the_history_is_that_of_the_checkpoints_before(tmp_path: Path) -> None:
    """Beside them there may be those of an earlier config."""
    folders = {kimg: tmp_path / f"checkpoints/{kimg}" for kimg in (3, 4, 6, 8)}
    for kimg, folder in folders.items():
        write_jsonl(folder / "stats.jsonl", [{"step": 10 * kimg, "loss": float(kimg)}])
    for kimg, before in ((3, {}), (6, {"before": {"path": "elsewhere/checkpoints/3/ema.safetensors"}})):
        write_json(folders[kimg] / "receipt.json", {"inputs": before})
    part = Slice(tmp_path, 8, 60, 80, "", "", "", before=folders[6] / "ema.safetensors")
    assert [row["step"] for row in earlier_rows(part, 60)] == [30, 60]
    assert [row["step"] for row in earlier_rows(part, 40)] == [30]
    assert earlier_rows(Slice(tmp_path, 3, 0, 30, "", "", ""), 0) == []
