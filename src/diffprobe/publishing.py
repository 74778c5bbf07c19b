"""`diffprobe card` and `push`: a trained model as a folder for the Hugging Face hub, and its upload."""

import argparse
from pathlib import Path

from diffprobe.config.load import load
from diffprobe.config.problems import one_of
from diffprobe.data.filenames import display
from diffprobe.runtime.command import named_path, natural_number
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.places import config_file


def add_card(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the arguments of `run_card` to a parser."""
    parser.add_argument("experiment", help="whose model")
    parser.add_argument("--out", type=named_path, help="a new or empty folder (default: cards/EXPERIMENT)")
    parser.add_argument("--kimg", type=natural_number, help="the checkpoint (default: the chosen one, or the latest)")
    parser.add_argument("--weights", help="an average of train.averages, or raw (default: the first average)")
    parser.add_argument(
        "--license", default="unknown", help="of the weights, by the hub's name of it, such as cc-by-4.0"
    )
    parser.add_argument("--configfile", nargs="+", default=[default], help=f"default: {default}")


def add_push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run_push` to a parser."""
    parser.add_argument("folder", type=named_path, help="that diffprobe card has written")
    parser.add_argument("repository", help="OWNER/NAME on the hub, which is made where there is none")
    parser.add_argument("--private", action="store_true", help="make it a private one")


def run_card(arguments: argparse.Namespace) -> None:
    """Write a card and print what is in it. Raises UserError."""
    config, name = load(*map(config_file, arguments.configfile)), arguments.experiment
    if name not in config.experiments:
        raise UserError(f"{display(name)}: no such experiment; there are {one_of(config.experiments)}")
    from diffprobe.reporting.card import write_card  # imports torch

    out = arguments.out or Path("cards") / name
    for line in write_card(config, name, out, arguments.kimg, arguments.weights, arguments.license):
        print(line)


def run_push(arguments: argparse.Namespace) -> None:
    """Upload a folder and print where it is. Raises UserError."""
    from diffprobe.interop.push import push

    print(push(arguments.folder, arguments.repository, arguments.private))
