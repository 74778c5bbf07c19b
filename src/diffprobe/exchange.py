"""`diffprobe import` and `export`: weights of other code as an experiment's checkpoint, and ours for other code.
Results for a board of others are exported too.

Latents are exported here too; those of other code are imported by the config key `latents.NAME.imported`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffprobe.config.load import load
from diffprobe.config.models import Config
from diffprobe.config.problems import one_of
from diffprobe.data.filenames import display
from diffprobe.plan.layout import Layout
from diffprobe.plan.uses import autoencoder_weights
from diffprobe.runtime.command import named_path, natural_number, positive_number
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.places import config_file

# The modules of diffprobe.interop import torch, so they are imported inside functions: --help stays fast.
IMPORTED, EXPORTED = ("ddae", "edm", "soda", "dit", "gta", "sit", "diffusers"), ("safetensors", "diffusers")
LATENTS = ("hdf5", "npy")  # formats of exported latents
RESULTS = ("ep-board",)  # formats of exported results


def add_import(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the arguments of `run_import` to a parser."""
    parser.add_argument(
        "source",
        help="a checkpoint of DDAE, SODA, DiT, RoPE or GTA, SiT or REPA, EDM's state dict (.pth, .pt), or the folder "
        "or hub name of a diffusers UNet2DModel or DiTTransformer2DModel",
    )
    parser.add_argument("--format", required=True, choices=IMPORTED)
    parser.add_argument(
        "--experiment", required=True, help="the experiment whose network, process and dataset the weights are for"
    )
    parser.add_argument("--configfile", nargs="+", default=[default], help=f"default: {default}")
    parser.add_argument(
        "--out",
        type=named_path,
        help="file to write (default: the experiment's train.imported, else one in the folder imported)",
    )


def add_export(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the arguments of `run_export` to a parser."""
    parser.add_argument(
        "out", type=named_path, help="a .safetensors or .h5 file, or a folder for diffusers, npy and ep-board"
    )
    formats = f"{' or '.join(EXPORTED)} for weights, {' or '.join(LATENTS)} for latents, "
    formats += "ep-board for a row and logs of the board of Efficient Probing"
    parser.add_argument("--format", required=True, choices=EXPORTED + LATENTS + RESULTS, help=formats)
    content = parser.add_mutually_exclusive_group(required=True)
    content.add_argument("--experiment", help="export this experiment's weights, or its results")
    content.add_argument(
        "--latents", help="export this store: whole as hdf5, or samples as npy, the arrays of DDAE/DiT"
    )
    parser.add_argument("--seed", type=natural_number, help="seed of the latents' samples (default: 0)")
    parser.add_argument(
        "--scaled",
        type=positive_number,
        help="factor on samples in the autoencoder's own scale (default: samples in model scale)",
    )
    parser.add_argument("--kimg", type=natural_number, help="the checkpoint (default: the latest)")
    parser.add_argument("--weights", help="an average of train.averages, or raw (default: the first average)")
    parser.add_argument("--configfile", nargs="+", default=[default], help=f"default: {default}")


def run_import(arguments: argparse.Namespace) -> None:
    """Import weights, print where they are and what is left to set. Raises UserError."""
    # A mistake in the config ends here, before torch is imported.
    config = load(*map(config_file, arguments.configfile))
    from diffprobe.interop.importing import import_weights

    name = arguments.experiment
    imported = import_weights(config, name, arguments.format, arguments.source, arguments.out)
    sets = " and ".join(imported.sets)
    print(f"{imported.path}: {imported.parameters:,} parameters, weights {sets}, from {imported.source}")
    if config.experiments[name].train.imported != str(imported.path):
        print(f"to use it, set experiments.{name}.train: {{imported: {imported.path}, checkpoints: [1]}}")


def run_export(arguments: argparse.Namespace) -> None:
    """Export weights or latents and print how to load them. Raises UserError."""
    config = load(*map(config_file, arguments.configfile))
    allowed = LATENTS if arguments.latents else EXPORTED + RESULTS
    if arguments.format not in allowed:
        raise UserError(f"--format {arguments.format}: allowed: {' or '.join(allowed)}")
    npy = arguments.format == "npy"
    of_weights = not arguments.latents and arguments.format not in RESULTS
    for option, applies in (("seed", npy), ("scaled", npy), ("kimg", of_weights), ("weights", of_weights)):
        if not applies and getattr(arguments, option) is not None:
            raise UserError(f"--{option}: --format {arguments.format} has no use for it here; leave it out")
    if arguments.latents:
        export_latents(config, arguments)
        return
    if arguments.experiment not in config.experiments:
        name = arguments.experiment
        raise UserError(f"--experiment {display(name)}: no such experiment; there are {one_of(config.experiments)}")
    if arguments.format in RESULTS:
        from diffprobe.reporting import ep_board

        for line in ep_board.export(config, arguments.experiment, arguments.out):
            print(line)
        return
    from diffprobe.interop.exporting import export
    from diffprobe.interop.runs import checkpoint_of

    path = checkpoint_of(config, arguments.experiment, arguments.kimg, arguments.weights)
    latents = config.experiments[arguments.experiment].latents
    decoder = Path(autoencoder_weights(config, config.latents[latents].autoencoder)) if latents else None
    for line in export(path, arguments.weights, arguments.format, arguments.out, decoder):
        print(line)


def export_latents(config: Config, arguments: argparse.Namespace) -> None:
    """Export a store of latents. Raises UserError."""
    name, out = arguments.latents, arguments.out
    if name not in config.latents:
        raise UserError(f"--latents {display(name)}: no such store; there are {one_of(config.latents)}")
    from diffprobe.interop.latents.exporting import to_hdf5, to_npy
    from diffprobe.latents.store import open_store

    layout = Layout(config.results)
    # Samples are exported in the order of the images, which the image store has; HDF5 keeps the store's own.
    latents = open_store(Path(layout.latents(name)).parent)
    if arguments.format == "hdf5":
        to_hdf5(latents, out)
        print(f"{out}: the {latents.holds} of {', '.join(latents.splits)}, as {latents.path} holds them")
        return
    to_npy(latents, Path(layout.images(config.latents[name].dataset)), out, arguments.seed or 0, arguments.scaled)
    print(f"{out}: samples {scaling(latents.scale.tolist(), latents.shift.tolist(), arguments.scaled)}")


def scaling(scale: Sequence[float], shift: Sequence[float], scaled: float | None) -> str:
    """How samples were scaled, and the config entry that reads them again."""
    # `imported.scaled` is one number, which cannot undo a scale by channel or a shift.
    if scaled is None and (len(set(scale)) > 1 or any(shift)):
        return "in model scale, (z - shift) * scale per channel; to import them elsewhere, export with --scaled 1"
    factor = float(scale[0]) if scaled is None else scaled
    return f"scaled by {factor:.6g}; to import them: imported: {{kind: npy, path: FOLDER, scaled: {factor:.6g}}}"
