"""What a changed list of checkpoints trains again is said before it is."""

import shutil
from pathlib import Path

import pytest
from toy_probing import EXPERIMENT

from diffprobe.config.load import parse
from diffprobe.config.models import Config
from diffprobe.plan.layout import Layout
from diffprobe.plan.preflight import retraining
from diffprobe.runtime.files import write_json


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
