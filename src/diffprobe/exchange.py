"""`diffprobe import` and `export`: weights from elsewhere as an experiment's checkpoint, and the other way; stores of
latents for other code (theirs are imported by `latents.NAME.imported`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffprobe.config.load import load
from diffprobe.config.models import Config
from diffprobe.config.problems import one_of
from diffprobe.plan.layout import Layout
from diffprobe.runtime.errors import UserError

# The modules of diffprobe.interop import torch, so they are imported where something is done.
IMPORTED, EXPORTED = ("ddae", "diffusers"), ("safetensors", "diffusers")
LATENTS = ("hdf5", "npy")  # what stores of latents are exported as


def add_import(parser: argparse.ArgumentParser, default: str) -> None:
    """Give a parser what `run_import` reads."""
    parser.add_argument("source", help="a DDAE checkpoint (.pth), or the folder or hub name of a diffusers UNet2DModel")
    parser.add_argument("--format", required=True, choices=IMPORTED)
    parser.add_argument("--experiment", required=True, help="whose network, process and dataset they are weights for")
    parser.add_argument("--configfile", nargs="+", default=[default], help=f"default: {default}")
    parser.add_argument("--out", type=Path, help="default: the experiment's train.imported, or in the folder imported")


def add_export(parser: argparse.ArgumentParser, default: str) -> None:
    """Give a parser what `run_export` reads."""
    parser.add_argument("out", type=Path, help="a .safetensors or .h5 file, or a folder for diffusers and npy")
    formats = f"of weights {' or '.join(EXPORTED)}, of latents {' or '.join(LATENTS)}"
    parser.add_argument("--format", required=True, choices=EXPORTED + LATENTS, help=formats)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--experiment", help="whose weights")
    what.add_argument("--latents", help="a store: all of it as hdf5, or samples of it as npy, the arrays of DDAE/DiT")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument(
        "--scaled", type=float, help="multiply samples in the autoencoder's own scale by this (default: model scale)"
    )
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
    allowed = LATENTS if arguments.latents else EXPORTED
    if arguments.format not in allowed:
        raise UserError(f"--format {arguments.format}: allowed: {' or '.join(allowed)}")
    if arguments.latents:
        export_latents(config, arguments)
        return
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


def export_latents(config: Config, arguments: argparse.Namespace) -> None:
    """Export a store of latents. Raises UserError, a line."""
    name, out = arguments.latents, arguments.out
    if name not in config.latents:
        raise UserError(f"--latents {name}: no such store; there are {one_of(config.latents)}")
    from diffprobe.interop.latents.exporting import to_hdf5, to_npy
    from diffprobe.latents.store import open_store

    layout = Layout(config.results)
    latents = open_store(Path(layout.latents(name)).parent)
    if arguments.format == "hdf5":
        to_hdf5(latents, out)
        print(f"{out}: the {latents.holds} of {', '.join(latents.splits)}, as {latents.path} holds them")
        return
    to_npy(latents, Path(layout.images(config.latents[name].dataset)), out, arguments.seed, arguments.scaled)
    print(f"{out}: samples {scaling(latents.scale, latents.shift, arguments.scaled)}")


def scaling(scale: Sequence[float], shift: Sequence[float], scaled: float | None) -> str:
    """How samples were scaled, and how a config tells it to read them again."""
    if scaled is None and (len(set(scale)) > 1 or any(shift)):
        return "in model scale, (z - shift) * scale by channel; to be imported anywhere, export them with --scaled 1"
    factor = float(scale[0]) if scaled is None else scaled
    return f"times {factor:.6g}; to import them: imported: {{kind: npy, path: FOLDER, scaled: {factor:.6g}}}"
