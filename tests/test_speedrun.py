"""The configs of docs/RECORDS.md spend what their rows say, on the same images; its table is that of its rows."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diffprobe.config.load import load
from diffprobe.config.models import Experiment
from diffprobe.plan.repeats import repeats

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # the benchmarks are no part of the package

from benchmarks import records  # noqa: E402

CONFIG, ZIPS, FASHION, GPU = (
    ROOT / "config" / f"{name}.yaml" for name in ("speedrun", "speedrun_zips", "speedrun_fashion", "speedrun_gpu")
)
EQUAL = 0.05  # shares of FLOPs by which checkpoints of whole thousands of images may differ


def test_the_rows_to_beat_have_the_flops_of_the_record(described: Callable) -> None:
    config = load(CONFIG)
    flops = {name: described(config, name)["training"]["flops"] for name in config.experiments}
    for name in ("ddpm", "ddpm_small"):
        assert flops[name] == pytest.approx(flops["record_0"], rel=EQUAL)
    assert flops["untrained"] < 0.02 * flops["record_0"] and config.experiments["untrained"].train.lr < 1e-9
    assert list(repeats(config)) == ["record"]


def test_zips_are_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same experiments, on images that are refused where their hash is another."""
    for variable in ("CIFAR10_A", "CIFAR10_B"):
        monkeypatch.setenv(variable, "~/half.zip")
    downloaded, zipped = load(CONFIG), load(CONFIG, ZIPS)
    assert downloaded.experiments == zipped.experiments
    contents = {load(path).datasets["cifar10"].content for path in (CONFIG, GPU)} | {zipped.datasets["cifar10"].content}
    assert len(contents) == 1 and None not in contents


@pytest.mark.parametrize("path", [CONFIG, FASHION], ids=lambda path: path.stem)
def test_records_see_no_labels_and_choose_on_select(path: Path) -> None:
    for name, experiment in load(path).experiments.items():
        assert experiment.train.splits == ["train"] and not getattr(experiment.network, "conditional", False)
        assert experiment.train.imported is experiment.train.initial is None and experiment.probe is not None
        assert experiment.probe.selection == "select", name
        if name.startswith(("record", "untrained")):
            assert joined(experiment) == experiment.taps


def joined(experiment: Experiment) -> list[str | None]:
    assert experiment.probe is not None
    return [cell.tap for cell in experiment.probe.evaluators["joined"].combine]


def test_the_table_is_that_of_the_rows() -> None:
    rows = [json.loads(line) for line in records.ROWS.read_text().splitlines()]
    assert records.tables(rows) in records.PAGE.read_text()
    for row in rows:
        assert "changed" not in row["commit"] and {len(v) for v in row["test"].values()} == {len(row["experiments"])}
