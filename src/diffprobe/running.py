"""The command `run`: a config, or a folder or zip of images, to a report and the table of results."""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from diffprobe.config.load import load, read
from diffprobe.config.models import Config
from diffprobe.plan.layout import Layout
from diffprobe.plan.leftovers import is_dry_run
from diffprobe.plan.repeats import repeats
from diffprobe.planning import NOTHING
from diffprobe.reporting import tables
from diffprobe.runtime.command import call, named_path, positive_integer
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.places import WORKFLOW, config_file, snakefile
from diffprobe.starter import config_for, show_own

CORES = 2
ONE_JOB = 10  # seconds in which the job of the tables writes all of them
# Options of Snakemake that say themselves how much runs at once.
SIZED = re.compile(r"(-[cj]\d*|-e|--(cores|jobs|executor|profile))(=.*)?")
# Options of Snakemake, shortened or joined to their values too, that would replace what `run` says, and what to do.
REPLACING = {
    re.compile(r"-C.*|--conf.*"): "name a further config, which is merged over the one before it",
    re.compile(r"-d.*|--dir.*"): "change into that folder first",
    re.compile(r"-s.*|--snakef.*"): "call snakemake itself",
}


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "what",
        type=named_path,
        nargs="*",
        default=[Path(default)],
        help=f"configs, the later merged over the earlier, or images (default: {default})",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these experiments (default: all)")
    parser.add_argument("--cores", type=positive_integer, help=f"CPU cores to use (default: {CORES})")
    parser.add_argument("--name", help="for images: name of the dataset and its config (default: the folder's name)")
    parser.add_argument("--no-labels", action="store_true", help="for images: ignore class folders and files of labels")
    parser.add_argument("--profile", help=f"Snakemake profile: a folder, or one of ours ({', '.join(profiles())})")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show the images and the jobs, and run nothing")


def profiles() -> list[str]:
    """The profiles that come with diffprobe, but for the default, which is always read."""
    return sorted(
        path.parent.name for path in WORKFLOW.glob("profiles/*/profile.yaml") if path.parent.name != "default"
    )


def run(arguments: argparse.Namespace, default: str) -> None:
    """Raises UserError for what is wrong with the words, the config or the images; exits with Snakemake's status if it
    fails.
    """
    for option, remedy in REPLACING.items():
        if word := next(filter(option.fullmatch, arguments.passed), None):
            raise UserError(f"-- {word}: is not passed on; {remedy}")
    folder = Path(default).parent
    earlier = {*folder.glob("*.yaml"), *arguments.what}
    named = map(config_file, arguments.what)
    paths = [config_for(what, arguments.name, folder, not arguments.no_labels) for what in named]
    configfiles = list(map(str, paths))
    only = {"only": arguments.only} if arguments.only else {}
    config = load(*configfiles, **only)  # before Snakemake starts, so that a mistake is one line
    show_own(config, but={path.stem for path in paths if path not in earlier})  # of a new config it was shown
    layout = Layout(config.results)
    # Snakemake refuses a config file that holds nothing, without naming it.
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile())]
    snakemake += ["--configfile", *filter(read, configfiles)]
    if only:
        snakemake += ["--config", f"only={json.dumps(arguments.only)}"]
    passed = ["--dry-run"] * arguments.dry_run + arguments.passed
    # Profiles call `python`. It must be this one, also where its environment is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if status := call([*snakemake, *sizes(arguments), *passed]):
        sys.exit(status)
    if is_dry_run(passed):
        return
    # Another call, since Snakemake writes a report only from finished results. Options may have left some of them out.
    if not passed or is_finished([*snakemake, *sizes(arguments)], passed):
        if status := call([*snakemake, "--report", layout.report(), "--quiet"]):
            sys.exit(status)
        show_results(config)


def is_finished(snakemake: Sequence[str], passed: Sequence[str]) -> bool:
    """Whether a dry run finds nothing to do, by the triggers that are passed, if any are."""
    triggers = [word for word in passed if re.fullmatch(r"--rerun-trig.*|mtime|params|input|software-env|code", word)]
    command = [*snakemake, "--dry-run", "--quiet", "rules", *triggers]
    planned = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return planned.returncode == 0 and NOTHING in planned.stdout


def sizes(arguments: argparse.Namespace) -> list[str]:
    """The options that say where jobs run and how many at once."""
    options = []
    if arguments.profile:
        ours = WORKFLOW / "profiles" / arguments.profile
        own = any(Path(arguments.profile).glob("*.yaml")) or arguments.profile not in profiles()
        options = ["--profile", arguments.profile if own else str(ours)]
    if arguments.cores or not any(map(SIZED.fullmatch, [*options, *arguments.passed])):
        options += ["--cores", str(arguments.cores or CORES)]
    return options


def show_results(config: Config) -> None:
    """Print the tables of results, and where the report is."""
    layout = Layout(config.results)
    tables.show(layout.results_table())
    # Where only some experiments have been run, it may be missing, or of runs that have been made again since.
    repeated = Path(layout.repeats_table())
    if repeats(config) and repeated.exists():
        if repeated.stat().st_mtime + ONE_JOB < Path(layout.summary()).stat().st_mtime:
            print(f"{repeated} is older than {layout.summary()}, and is not shown: run all its experiments")
        else:
            tables.show(layout.repeats_table())
    if Path(layout.report()).exists():
        print(f"report: {layout.report()}")
