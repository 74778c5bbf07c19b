"""`python -m diffprobe`: run a config, describe it, and inspect its results. Snakemake does the work itself."""

import argparse
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from diffprobe.runtime.command import CommandParser, ends_in_one_line, named_path
from diffprobe.runtime.places import WORKFLOW, config_file

if TYPE_CHECKING:
    from diffprobe.config.models import Config

DEFAULT = "config/config.yaml"


def parser() -> argparse.ArgumentParser:
    """The command line; `function` of the parsed arguments runs the command."""
    parser = CommandParser(prog="diffprobe", description=__doc__)
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser(
        "run",
        help="run a config, or a folder or zip of images, to a report and the table of results",
        epilog="What stands behind `--` is passed on to Snakemake: diffprobe run -- --keep-going",
    )
    run.passes_on = True
    run.add_later(_add_run)
    plan = commands.add_parser("plan", help="count the jobs of many configs at once, or of all recipes; run nothing")
    plan.add_later(_add_plan)
    figures = commands.add_parser("measure", help="FID and related metrics of any images, against other images")
    figures.add_later(_add_measure)
    imported = commands.add_parser("import", help="make an experiment's checkpoint from weights of DDAE or diffusers")
    imported.add_later(_add_import)
    exported = commands.add_parser("export", help="write a checkpoint or a store of latents for other code")
    exported.add_later(_add_export)
    card = commands.add_parser(
        "card", help="write a model's folder for the Hugging Face hub, with its card and figures"
    )
    card.add_later(_add_card)
    pushed = commands.add_parser("push", help="upload such a folder to the hub")
    pushed.add_later(_add_push)
    status = commands.add_parser("status", help="show what is done, running, failed, or made by older code")
    describe = commands.add_parser(
        "describe", help="show parameters, taps, FLOPs, bytes and jobs without running anything"
    )
    results = commands.add_parser("results", help="print the table of results")
    verify = commands.add_parser(
        "verify", help="check every byte of stores, weights, training states and results; name what is damaged"
    )
    verify.add_argument("paths", nargs="*", type=named_path, help="single stores or files (default: all of the config)")
    where = commands.add_parser("where", help="print the folder of the Snakefile, profiles and configs")
    where.set_defaults(function=_where)
    docs = commands.add_parser("docs", help="regenerate config/schema.json and config/README.md")
    functions = {status: _status, describe: _describe, results: _results, verify: _verify, docs: _docs}
    for command, function in functions.items():
        command.set_defaults(function=function)
        command.add_argument("--configfile", nargs="+", default=[DEFAULT], help=f"default: {DEFAULT}")
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--watch", action="store_true", help="refresh every second, until everything is done")
    shown.add_argument("--json", action="store_true", help="print JSON")
    describe.add_argument("experiment", nargs="?", help="name of one experiment (default: all)")
    describe.add_argument("--json", action="store_true", help="print JSON")
    verify.add_argument(
        "--repair", action="store_true", help="remove damaged parts, so that the next run makes them again"
    )
    return parser


class Version(argparse.Action):
    """Prints the version; what reads it takes a twentieth of a second to import."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, *_: object) -> None:
        from importlib.metadata import version

        print(f"diffprobe {version('diffprobe')}")
        sys.exit()


def main(argv: list[str] | None = None) -> None:
    """Run one command. A UserError ends in its one line and exit status 1."""
    with ends_in_one_line():  # imports included: nothing above them takes long
        arguments = parser().parse_args(argv)
        arguments.function(arguments)


def load(*configfiles: str, **overrides: object) -> "Config":
    from diffprobe.config import load as loading

    return loading.load(*map(config_file, configfiles), **overrides)


# Each command imports its own modules: pydantic, pandas, rich and torch would slow down --help and the others.


def _add_run(parser: argparse.ArgumentParser) -> None:
    from diffprobe import running

    running.add_arguments(parser, DEFAULT)
    parser.set_defaults(function=lambda arguments: running.run(arguments, DEFAULT))


def _add_plan(parser: argparse.ArgumentParser) -> None:
    from diffprobe import planning

    planning.add_arguments(parser)
    parser.set_defaults(function=planning.run)


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


def _add_card(parser: argparse.ArgumentParser) -> None:
    from diffprobe import publishing

    publishing.add_card(parser, DEFAULT)
    parser.set_defaults(function=publishing.run_card)


def _add_push(parser: argparse.ArgumentParser) -> None:
    from diffprobe import publishing

    publishing.add_push(parser)
    parser.set_defaults(function=publishing.run_push)


def _status(arguments: argparse.Namespace) -> None:
    config = load(*arguments.configfile)
    if arguments.json:
        from diffprobe.reporting.status_json import as_json

        print(as_json(config))
    elif arguments.watch:
        from rich.console import Console

        from diffprobe.reporting.watch import watch

        watch(config, Console())
    else:
        from diffprobe.reporting import status

        status.show(config)


def _describe(arguments: argparse.Namespace) -> None:
    # Looking for cycles among what torch and pydantic load would take a sixth of the command.
    gc.disable()
    from diffprobe.reporting import describe

    experiments = describe.describe(load(*arguments.configfile), arguments.experiment)
    if arguments.json:
        print(describe.as_json(experiments))
    else:
        describe.show(experiments)


def _results(arguments: argparse.Namespace) -> None:
    from diffprobe import running

    running.show_results(load(*arguments.configfile))


def _where(arguments: argparse.Namespace) -> None:
    print(WORKFLOW)


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
