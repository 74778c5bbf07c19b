"""`diffprobe import` and `export`: weights from elsewhere as an experiment's checkpoint, and the other way."""

import argparse
from pathlib import Path

from diffprobe.config.layout import Layout
from diffprobe.config.load import load
from diffprobe.config.words import one_of
from diffprobe.runtime.errors import UserError

# The modules of diffprobe.interop import torch, so they are imported where something is done.
IMPORTED, EXPORTED = ("ddae", "diffusers"), ("safetensors", "diffusers")


def add_import(parser: argparse.ArgumentParser, default: str) -> None:
    """Give a parser what `run_import` reads."""
    parser.add_argument("source", help="a DDAE checkpoint (.pth), or the folder or hub name of a diffusers UNet2DModel")
    parser.add_argument("--format", required=True, choices=IMPORTED)
    parser.add_argument("--experiment", required=True, help="whose network, process and dataset they are weights for")
    parser.add_argument("--configfile", nargs="+", default=[default], help=f"default: {default}")
    parser.add_argument("--out", type=Path, help="default: the experiment's train.imported, or in the folder imported")


def add_export(parser: argparse.ArgumentParser, default: str) -> None:
    """Give a parser what `run_export` reads."""
    parser.add_argument("out", type=Path, help="a .safetensors file, or a folder for diffusers")
    parser.add_argument("--format", required=True, choices=EXPORTED)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--kimg", type=int, help="which checkpoint (default: the latest)")
    parser.add_argument("--weights", help="an average of train.averages, or raw (default: the first average)")
    parser.add_argument("--configfile", nargs="+", default=[default], help=f"default: {default}")


def run_import(arguments: argparse.Namespace) -> None:
    """Import, and say where it lies and what is left to be set. Raises UserError, a line."""
    config = load(*arguments.configfile)
    from diffprobe.interop.importing import import_weights

    name = arguments.experiment
    found = import_weights(config, name, arguments.format, arguments.source, arguments.out)
    print(f"{found.path}: {found.parameters:,} parameters, weights {' and '.join(found.sets)}")
    if config.experiments[name].train.imported != str(found.path):
        print(f"to use it, set experiments.{name}.train: {{imported: {found.path}, checkpoints: [1]}}")


def run_export(arguments: argparse.Namespace) -> None:
    """Export, and say how to load it. Raises UserError, a line."""
    config = load(*arguments.configfile)
    if arguments.experiment not in config.experiments:
        raise UserError(
            f"--experiment {arguments.experiment}: no such experiment; there are {one_of(config.experiments)}"
        )
    from diffprobe.interop.exporting import export
    from diffprobe.interop.runs import checkpoint

    run = Path(Layout(config.results).run(arguments.experiment))
    path = checkpoint(run, arguments.kimg, arguments.weights)
    for line in export(path, arguments.weights, arguments.format, arguments.out):
        print(line)
