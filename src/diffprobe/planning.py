"""The command `plan`: a dry run of many configs at once, each by itself, and the number of jobs of each.

Most of a dry run of one recipe is Snakemake's start. It is paid once: each config is read in a fork of a process that
has Snakemake loaded. So no name of one config meets one of another, which `run` of several configs merges.
"""

import argparse
import gc
import os
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from diffprobe.config.load import read
from diffprobe.runtime.command import named_path
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.places import WORKFLOW, config_file, snakefile

LATE = (
    "smart_open",  # with which Snakemake reads the rules
    *(f"diffprobe.plan.{name}" for name in ("inputs", "leftovers", "memory", "preflight", "probe_job_arguments")),
    *(f"diffprobe.runtime.{name}" for name in ("job_call", "preload")),
)
ROW = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)  # of Snakemake's table of jobs
NO_JOBS = ("all", "total")
NOTHING = "Nothing to be done"


class Planned(NamedTuple):
    """What a dry run says: the jobs by rule, or why it was refused."""

    jobs: dict[str, int]
    refusal: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "configs",
        type=named_path,
        nargs="*",
        help="configs, each by itself (default: all recipes that come with diffprobe)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the jobs of each config and of all. Exits with 1 where one is refused."""
    configs = list(map(config_file, arguments.configs)) or recipes()
    load_snakemake()
    width = max(len(config.stem) for config in configs)
    every = []
    for config in configs:
        planned = dry_run(config)
        every.append(planned)
        print(f"{config.stem:<{width}}  {planned.refusal or f'{sum(planned.jobs.values()):>7,}'}", flush=True)
    total = sum(sum(planned.jobs.values()) for planned in every)
    refused = sum(bool(planned.refusal) for planned in every)
    print(f"{'':<{width}}  {total:>7,} jobs of {len(every) - refused} configs" + f", {refused} refused" * bool(refused))
    if refused:
        sys.exit(1)


def recipes() -> list[Path]:
    """The configs that come along and stand by themselves; others are merged over one of these."""
    return [path for path in sorted((WORKFLOW / "config").glob("*.yaml")) if stands_alone(path)]


def stands_alone(path: Path) -> bool:
    """Whether a config says where its images come from and what is trained on them."""
    raw: dict[str, Any] = read(str(path))
    datasets, experiments = (list(raw.get(key, {}).values()) for key in ("datasets", "experiments"))
    described = [dataset.get("source", {}) for dataset in datasets] + [each.get("network", {}) for each in experiments]
    return bool(datasets and experiments) and all("kind" in part for part in described)


def load_snakemake() -> None:
    """Import what Snakemake imports late, with its plugins, and what rules import: a second that forks then share."""
    from snakemake.cli import get_argument_parser

    for module in LATE:
        import_module(module)
    get_argument_parser()
    gc.freeze()  # what is loaded stays: no fork needs to look through it


def dry_run(config: Path) -> Planned:
    """Snakemake's dry run of one config, in a fork of this process."""
    try:
        read(str(config))
    except UserError as error:
        return Planned({}, str(error))
    sys.stdout.flush()
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            become_snakemake(config, said.fileno())
        _, status = os.waitpid(child, 0)
        said.seek(0)
        text = said.read()
    if status:
        return Planned({}, refusal_in(text))
    jobs = {rule: int(count) for rule, count in ROW.findall(text) if rule not in NO_JOBS}
    if not jobs and NOTHING not in text:
        raise UserError(f"{config}: Snakemake's dry run names no jobs; run it by itself: diffprobe run {config} -n")
    return Planned(jobs)


def become_snakemake(config: Path, output: int) -> NoReturn:
    """Never returns: what the parent has still to do must not be done here."""
    from snakemake.cli import main

    status = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name in re.findall(r"\$\{?(\w+)", config.read_text()):
            os.environ.setdefault(name, name)  # a plan needs no images, so they may be anywhere
        sys.argv = ["snakemake", "--dry-run"]  # which rules look at
        files = ["--snakefile", str(snakefile()), "--configfile", str(config)]
        main([*files, "--dry-run", "--cores", "1", "--quiet", "rules"])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = 0 if end.code in (0, None) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def refusal_in(text: str) -> str:
    """The line that says why: the last one, as Snakemake's own come before it."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "refused without a word"
