"""`python -m diffprobe`: run a config, describe it, and inspect its results. Snakemake does the work itself."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from diffprobe.runtime.command import CommandParser, call, ends_in_one_line, positive_integer
from diffprobe.runtime.errors import UserError

if TYPE_CHECKING:
    from diffprobe.config.models import Config

DEFAULT = "config/config.yaml"


def parser() -> argparse.ArgumentParser:
    """The command line; `function` of the parsed arguments runs the command."""
    parser = CommandParser(prog="diffprobe", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser(
        "run", help="run a config, or a folder or zip of images, to a report and the table of results"
    )
    run.set_defaults(function=_run)
    run.add_argument(
        "what",
        type=Path,
        nargs="*",
        default=[Path(DEFAULT)],
        help=f"configs, the later merged over the earlier, or images (default: {DEFAULT})",
    )
    run.add_argument("--only", nargs="+", metavar="NAME", help="run only these experiments (default: all)")
    run.add_argument("--cores", type=positive_integer, default=2, help="CPU cores to use (default: 2)")
    run.add_argument("--name", help="for images: name of the dataset and its config (default: the folder's name)")
    run.add_argument("--no-labels", action="store_true", help="for images: ignore class folders and files of labels")
    run.add_argument("-n", "--dry-run", action="store_true", help="show the images and the jobs, and run nothing")
    figures = commands.add_parser("measure", help="FID and its kin of any images, against other images")
    figures.add_later(_add_measure)
    imported = commands.add_parser("import", help="make an experiment's checkpoint from weights of DDAE or diffusers")
    imported.add_later(_add_import)
    exported = commands.add_parser("export", help="write a checkpoint or a store of latents for other code")
    exported.add_later(_add_export)
    status = commands.add_parser("status", help="show what is done, running, failed, or made by older code")
    describe = commands.add_parser(
        "describe", help="show parameters, taps, FLOPs, bytes and jobs without running anything"
    )
    results = commands.add_parser("results", help="print the table of results")
    verify = commands.add_parser(
        "verify", help="check every byte of stores, weights, training states and results; name what is damaged"
    )
    verify.add_argument("paths", nargs="*", type=Path, help="single stores or files (default: all of the config)")
    docs = commands.add_parser("docs", help="regenerate config/schema.json and config/README.md")
    functions = {status: _status, describe: _describe, results: _results, verify: _verify, docs: _docs}
    for command, function in functions.items():
        command.set_defaults(function=function)
        command.add_argument("--configfile", nargs="+", default=[DEFAULT], help=f"default: {DEFAULT}")
    status.add_argument("--watch", action="store_true", help="refresh every second")
    describe.add_argument("experiment", nargs="?", help="name of one experiment (default: all)")
    describe.add_argument("--json", action="store_true", help="print JSON")
    verify.add_argument(
        "--repair", action="store_true", help="remove damaged parts, so that the next run makes them again"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run one command. A UserError ends in its one line and exit status 1."""
    with ends_in_one_line():  # imports included: nothing above them takes long
        arguments = parser().parse_args(argv)
        arguments.function(arguments)


def _run(arguments: argparse.Namespace) -> None:
    from diffprobe.config.load import read
    from diffprobe.plan.layout import Layout
    from diffprobe.starter import config_for, show_own

    if not Path("Snakefile").exists():
        raise UserError("no Snakefile in this folder; change to the folder of the workflow (the clone)")
    folder = Path(DEFAULT).parent
    earlier = {*folder.glob("*.yaml"), *arguments.what}
    paths = [config_for(what, arguments.name, folder, not arguments.no_labels) for what in arguments.what]
    configfiles = list(map(str, paths))
    only = {"only": arguments.only} if arguments.only else {}
    config = load(*configfiles, **only)  # before Snakemake starts, so that a mistake is one line
    show_own(config, but={path.stem for path in paths if path not in earlier})  # of a new config it was shown
    layout = Layout(config.results)
    # Snakemake refuses a config file that holds nothing, without naming it.
    snakemake = [sys.executable, "-m", "snakemake", "--configfile", *filter(read, configfiles)]
    if only:
        snakemake += ["--config", f"only={json.dumps(arguments.only)}"]
    if arguments.dry_run:
        sys.exit(call([*snakemake, "--dry-run"]))
    # Two calls, since Snakemake writes a report only from finished results.
    for options in (["--cores", str(arguments.cores)], ["--report", layout.report(), "--quiet"]):
        if status := call([*snakemake, *options]):
            sys.exit(status)
    _show_results(config)


def load(*configfiles: str, **overrides: object) -> "Config":
    from diffprobe.config import load as loading

    return loading.load(*configfiles, **overrides)


# Each command imports its own modules: pydantic, pandas, rich and torch would slow down --help and the others.


def _add_measure(parser: argparse.ArgumentParser) -> None:
    from diffprobe import measure

    measure.add_arguments(parser)
    parser.set_defaults(function=measure.run)


def _add_import(parser: argparse.ArgumentParser) -> None:
    from diffprobe import exchange

    exchange.add_import(parser, DEFAULT)
    parser.set_defaults(function=exchange.run_import)


def _add_export(parser: argparse.ArgumentParser) -> None:
    from diffprobe import exchange

    exchange.add_export(parser, DEFAULT)
    parser.set_defaults(function=exchange.run_export)


def _status(arguments: argparse.Namespace) -> None:
    from diffprobe.reporting import status

    status.show(load(*arguments.configfile), arguments.watch)


def _describe(arguments: argparse.Namespace) -> None:
    from diffprobe.reporting import describe

    experiments = describe.describe(load(*arguments.configfile), arguments.experiment)
    if arguments.json:
        print(describe.as_json(experiments))
    else:
        describe.show(experiments)


def _results(arguments: argparse.Namespace) -> None:
    _show_results(load(*arguments.configfile))


def _show_results(config: "Config") -> None:
    from diffprobe.plan.layout import Layout
    from diffprobe.plan.repeats import repeats
    from diffprobe.reporting import tables

    layout = Layout(config.results)
    tables.show(layout.results_table())
    # Of a config of which only some experiments have been run it may be missing.
    if repeats(config) and Path(layout.repeats_table()).exists():
        tables.show(layout.repeats_table())
    if Path(layout.report()).exists():
        print(f"report: {layout.report()}")


def _verify(arguments: argparse.Namespace) -> None:
    from diffprobe.reporting.verify import verify, verify_paths

    if arguments.paths:
        verify_paths(arguments.paths, arguments.repair)
    else:
        verify(load(*arguments.configfile), arguments.repair)


def _docs(arguments: argparse.Namespace) -> None:
    from diffprobe.config import docs

    docs.write(Path(arguments.configfile[0]).parent)


if __name__ == "__main__":
    main()
