"""A dry run of 100 experiments with 20 checkpoints each: the demo's first experiment under many names."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.commands import DEMO, DRY, jobs, run, side
from benchmarks.row import Agreement, Line, Row, Setting, Slope

EXPERIMENTS = 100


def config(experiments: int, checkpoints: int) -> dict[str, Any]:
    demo = yaml.safe_load(DEMO.read_text())
    experiment = copy.deepcopy(demo["experiments"]["digits_edm"])
    experiment["train"]["checkpoints"] = list(range(10, 10 * checkpoints + 1, 10))
    names = [f"run_{i}" for i in range(experiments)]
    return demo | {"experiments": {name: copy.deepcopy(experiment) for name in names}}


def command(setting: Setting) -> list[str]:
    path = setting.folder / f"{setting.amount}.yaml"
    path.write_text(yaml.safe_dump(config(EXPERIMENTS, setting.amount), sort_keys=False))
    return [*DRY, str(path)]


def check(tiny: bool) -> list[Agreement]:
    """Each checkpoint brings the same jobs, and a second experiment those of the first that nothing shares."""
    if tiny:
        return []
    counts = {}
    with TemporaryDirectory() as folder:
        for experiments, checkpoints in ((1, 1), (1, 2), (2, 1), (2, 2)):
            path = Path(folder) / "config.yaml"
            path.write_text(yaml.safe_dump(config(experiments, checkpoints)))
            counts[experiments, checkpoints] = jobs(run([*DRY, str(path)], Path(folder)))
    per_checkpoint, again = counts[1, 2] - counts[1, 1], counts[2, 2] - counts[2, 1]
    return [Agreement("jobs of a checkpoint, and twice those of one experiment", abs(again - 2 * per_checkpoint), 0)]


ROW = Row(
    lines=(Line("dry run, 100 experiments x 20 checkpoints", must=20, go=10, figure="seconds"),),
    sides={"ours": side(command)},
    check=check,
    amount=20,
    unit="runs/s",
    rounds=1,
    warm=False,
    slope=Slope("checkpoints", 2, 20),
)
