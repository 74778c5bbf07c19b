"""`python -m diffprobe`: look at a config and at what it has made. The work itself is done by `snakemake`."""

import argparse
import sys
from pathlib import Path

from diffprobe.config.load import load
from diffprobe.runtime.errors import UserError

DEFAULT = "config/config.yaml"


def main(argv: list[str] | None = None) -> None:
    """Run one command; a mistake of the user ends in its line and exit status 1."""
    parser = argparse.ArgumentParser(prog="diffprobe", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    status = commands.add_parser("status", help="what is done, runs, failed, or was made by older code")
    describe = commands.add_parser("describe", help="parameters, taps, FLOPs, bytes and jobs, without running anything")
    results = commands.add_parser("results", help="the table of results")
    docs = commands.add_parser("docs", help="renew config/schema.json and config/README.md")
    for command, function in ((status, _status), (describe, _describe), (results, _results), (docs, _docs)):
        command.set_defaults(function=function)
        command.add_argument("--configfile", nargs="+", default=[DEFAULT], help=f"default: {DEFAULT}")
    status.add_argument("--watch", action="store_true", help="again every second")
    describe.add_argument("experiment", nargs="?", help="default: all")
    describe.add_argument("--json", action="store_true", help="as data")
    arguments = parser.parse_args(argv)
    try:
        arguments.function(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _status(arguments: argparse.Namespace) -> None:
    from diffprobe.reporting import status

    status.show(load(*arguments.configfile), arguments.watch)


def _describe(arguments: argparse.Namespace) -> None:
    from diffprobe.reporting import describe

    found = describe.describe(load(*arguments.configfile), arguments.experiment)
    print(describe.as_json(found)) if arguments.json else describe.show(found)


def _results(arguments: argparse.Namespace) -> None:
    from diffprobe.config.layout import Layout
    from diffprobe.reporting import tables

    layout = Layout(load(*arguments.configfile).results)
    tables.show(layout.results_table())
    if Path(layout.report()).exists():
        print(f"report: {layout.report()}")


def _docs(arguments: argparse.Namespace) -> None:
    from diffprobe.config import docs

    docs.write(Path(arguments.configfile[0]).parent)


if __name__ == "__main__":
    main()
