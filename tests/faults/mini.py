"""A project of every stage, small enough to be made in seconds: its files are the originals of damaged ones."""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import bounded, run_job
from PIL import Image
from toy_workflow import TINY, project_with


class Command(NamedTuple):
    """A job as Snakemake would call it."""

    script: str
    argv: list[str]

    @property
    def name(self) -> str:
        log = Path(self.argv[self.argv.index("--log") + 1])
        return f"{log.parent.name}.{log.stem}"

    def files(self, flag: str) -> dict[str, str]:
        """Named files after --in or --out."""
        words = self.argv[self.argv.index(flag) + 1 :] if flag in self.argv else []
        until = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        return dict(word.split("=", 1) for word in words[:until])


def config() -> dict[str, Any]:
    """The tests' tiny config, with fewer images, and with photos of the user's own."""
    whole = copy.deepcopy(TINY)
    tiny, dit = whole["experiments"]["tiny"], whole["experiments"]["tiny_dit"]
    whole["datasets"] = {
        "digits": {"source": {"kind": "digits"}, "per_class": 24, "masks": {"kind": "threshold", "levels": [100]}},
        "photos": {"source": {"kind": "folder", "path": "photos"}, "size": 8},
        "links": {"source": {"kind": "folder", "path": "photos"}, "size": 8, "decode": "when_read"},
    }
    tiny["train"]["checkpoints"] = [1, 2]
    tiny["sample"] = {"samplers": {"heun2": {"kind": "heun", "steps": 2}}, "images": 20}
    tiny["probe"] |= {"levels": [0.1], "seeds": [0], "taps": ["mid", "out_1"]}
    dit["train"]["checkpoints"] = [1]
    dit["sample"]["keep_samples"] = 8
    dit["probe"] |= {"augmented": 1}
    dit["probe"]["evaluators"]["dense"] = {"kind": "dense", "images": 4, "repeats": 2, "networks": 2, "steps": 5}
    whole["state"] = {"keep": "all", "keep_features": "all", "autosave_seconds": 1000}
    return whole


def photos(folder: Path, each: int = 12) -> None:
    """Two classes of photos of random pixels."""
    chance = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = chance.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def commands(project: Path) -> list[Command]:
    """All jobs of a project that `make` made, in the order in which they ran."""
    return [Command(*command) for command in json.loads(project.with_suffix(".jobs").read_text())]


def planned(project: Path) -> list[Command]:
    """All jobs of the project, in the order in which they can run."""
    arguments = ["--cores", "2", "--dry-run", "--printshellcmds", "--forceall"]
    plan = subprocess.run([sys.executable, "-m", "snakemake", *arguments], cwd=project, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    waiting = []
    for line in re.findall(r"^Shell command: job (.*)$", plan.stdout, re.MULTILINE):
        config, script, *words = shlex.split(line)
        waiting.append(Command(script, [config, *words]))
    ordered: list[Command] = []
    made: set[str] = set()
    every = {path for command in waiting for path in command.files("--out").values()}
    while waiting:
        ready = [c for c in waiting if all(p in made or p not in every for p in c.files("--in").values())]
        assert ready, [command.name for command in waiting]
        ordered += ready
        made |= {path for command in ready for path in command.files("--out").values()}
        waiting = [command for command in waiting if command not in ready]
    return ordered


def make(folder: Path) -> None:
    """Make the project in a folder, its jobs in children of this process."""
    project_with(folder, config())
    photos(folder / "photos")
    environment = {"DIFFPROBE_LEASES": str(folder.with_name("leases")), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    jobs = planned(folder)
    folder.with_suffix(".jobs").write_text(json.dumps(jobs))
    for command in jobs:
        for path in (*command.files("--out").values(), command.argv[command.argv.index("--log") + 1]):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)  # as Snakemake does
        outcome = bounded(partial(run_job, *command), folder, 300, **environment)
        assert outcome.status == 0, (command, outcome)
