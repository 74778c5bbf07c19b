"""The demo: its CPU seconds in all, and those of the same jobs with next to nothing to compute, an upper bound of
what is not compute. Takes minutes; only with --demo, or by name.

All processes count, the fork server and its jobs too: orphans become children of the side's process, which waits for
them.
"""

import copy
import ctypes
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.commands import DEMO, DRY, WORKFLOW, jobs, run
from benchmarks.row import Agreement, Line, Piece, Row, Setting

PR_SET_CHILD_SUBREAPER = 36


def without_work() -> dict[str, Any]:
    """The demo's config with as many checkpoints, levels and taps, and as little work for each as configs allow."""
    config = copy.deepcopy(yaml.safe_load(DEMO.read_text()))
    config["autoencoders"]["digits_vae"]["train"] |= {"kimg": 1, "batch": 256, "warmup_kimg": 0}
    config["extractors"]["digits_classifier"] |= {"kimg": 1}
    for experiment in config["experiments"].values():
        train = experiment["train"]
        train |= {"checkpoints": list(range(1, len(train["checkpoints"]) + 1)), "batch": 256}
        experiment["sample"]["images"] = 64
        for sampler in experiment["sample"]["samplers"].values():
            sampler["steps"] = 2
        for evaluator in experiment["probe"].get("evaluators", {}).values():
            evaluator |= {"epochs": 1} if evaluator["kind"] == "linear" else {}
    unet, dit = (config["experiments"][name] for name in ("digits_edm", "digits_dit"))
    unet["network"] |= {"channels": 8}
    unet["probe"]["draws"] = 2
    dit["network"] |= {"width": 40}
    return config


def demo(setting: Setting) -> Piece:
    return workflow(setting.folder / "demo", DEMO)


def starting(setting: Setting) -> Piece:
    path = setting.folder / "starting.yaml"
    path.write_text(yaml.safe_dump(without_work(), sort_keys=False))
    return workflow(setting.folder / "starting", path)


def workflow(folder: Path, config: Path) -> Piece:
    folder.mkdir()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def piece() -> float:
        run([*WORKFLOW, "--configfile", str(config), "--cores", "2"], folder)
        with suppress(ChildProcessError):  # none is left
            while True:
                os.wait()
        return 1

    return piece


def check(tiny: bool) -> list[Agreement]:
    """Both have the same jobs."""
    if tiny:
        return []
    with TemporaryDirectory() as name:
        path = Path(name) / "config.yaml"
        path.write_text(yaml.safe_dump(without_work()))
        counts = [jobs(run([*DRY, str(config)], Path(name))) for config in (DEMO, path)]
    return [Agreement("numbers of jobs", abs(counts[0] - counts[1]), 0)]


ROW = Row(
    lines=(
        Line("demo, CPU seconds in all", must=800, go=500, figure="seconds", ours="ours"),
        Line(
            "demo, seconds that are not compute",
            must=100,
            go=40,
            figure="seconds",
            ours="ours_starting",
            remark="an upper bound: the same jobs with as little to compute as configs allow",
        ),
    ),
    sides={"ours": demo, "ours_starting": starting},
    check=check,
    amount=1,
    unit="runs/s",
    rounds=1,
    warm=False,
)
