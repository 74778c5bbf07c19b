"""Every job of a finished project, called again with each of its inputs damaged in turn.

A job either refuses a damaged input in one clear line, its earlier outputs untouched, or its outputs are those that the
sound input gave: then the damage changed nothing that it reads.
"""

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mini
import pytest
from damage import as_json, flips, of_other_types, whole_file, written
from harness import Sandbox, changes, complaints, restore, run_job, tree
from mini import Command

RULES = [
    "autoencoder", "baseline", "choice", "chosen", "classifier", "comparison", "dataset_table", "dense", "encode",
    "evaluate", "features", "foreign", "generate", "generation", "grid", "latents", "monitors", "nearest",
    "nearest_real", "overview", "pictures", "plot_reconstruction", "plots", "pretrain", "reconstruct", "reference",
    "sample", "similarity", "subset", "summary",
]  # fmt: skip
LOGS = ("*.partial", "*/parts/.*", "*logs/*", "*/progress.json", "*.lock", "*/scratch", "*/scratch/lock", "*/.console")
RECEIPTS = ("*receipt.json", "*/tensorboard/*")
FEW = 2  # inputs of a job that are damaged, of those of one kind


@pytest.fixture(scope="module")
def jobs(finished: Path) -> dict[str, Command]:
    """The last job of each rule, which for training and features is one on latents; of evaluations the quickest."""
    jobs = {command.name.split(".")[0]: command for command in mini.commands(finished)}
    quick = next(command for command in mini.commands(finished) if command.name == "evaluate.tiny.knn")
    return jobs | {"evaluate": quick}


def test_every_rule_is_attacked(jobs: dict[str, Command]) -> None:
    assert sorted(jobs) == sorted([*RULES, "images"])


@pytest.mark.parametrize("rule", RULES)
def test_a_damaged_input_is_refused_or_changes_nothing(
    rule: str, jobs: dict[str, Command], finished: Path, sandbox: Sandbox
) -> None:
    command, project = jobs[rule], sandbox.work / "project"
    project.mkdir()
    restore(finished, project)
    wrong: list[str] = []
    # The figures before the one whose input is damaged are drawn, each whole; Snakemake removes them.
    left = LOGS if rule != "plots" else (*LOGS, "*/plots/*.png", "*/plots/*.csv")
    for name in attacked(finished, command):
        for what, content in damages((finished / name).read_bytes(), name):
            sandbox.inputs += 1
            written(project / name, content)
            before = tree(project)
            outcome = sandbox.call(partial(job, project, command))
            outcome = outcome._replace(err=re.sub(r"^.* \d+% .*\n", "", outcome.err, flags=re.MULTILINE))  # progress
            if outcome.status:
                wrong += [f"{name}: {what}: {line}" for line in complaints(outcome, naming(name))]
                wrong += [f"{name}: {what}: {line}" for line in changes(before, tree(project), left)]
            else:
                wrong += [f"{name}: {what}: {line}" for line in differences(finished, project, name)]
            restore(finished, project)
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)


def job(project: Path, command: Command) -> None:
    os.chdir(project)
    run_job(command.script, command.argv)


def attacked(project: Path, command: Command) -> Iterator[str]:
    """The files that a job reads: those of stores too, and few of many alike."""
    alike: dict[str, int] = {}
    for path in dict.fromkeys(command.files("--in").values()):
        place = project / path
        folder = place if place.is_dir() else place.parent if place.name in ("zarr.json", "features.json") else None
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder else [place]
        for file in files:
            name = str(file.relative_to(project))
            kind = "chunk" if file.suffix == "" else f"{file.name if folder else file.suffix}"
            alike[kind] = alike.get(kind, 0) + 1
            if alike[kind] <= FEW and not file.name.startswith("."):
                yield name


def damages(content: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    yield from list(whole_file(content))[: 5 if name.endswith((".json", ".csv")) else 2]
    yield from flips(content, 2)
    if name.endswith(".json"):
        yield from ((what, as_json(value)) for what, value in of_other_types(json.loads(content), 4))


def naming(name: str) -> str:
    """What a line must name of a damaged file: of a store its folder is enough."""
    parts = Path(name).parts
    return next((part for part in parts if part.endswith(".zarr")), "/".join(parts[-2:]))


def differences(finished: Path, project: Path, damaged: str) -> list[str]:
    """Files of a project that are not those of the finished one, except for records of how they were made."""
    same = changes(
        {name: (contents(finished / name),) for name in tree(finished)},
        {name: (contents(project / name),) for name in tree(project)},
        (*LOGS, *RECEIPTS, damaged),
    )
    return [f"passed, and {line}" for line in same]


def contents(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
