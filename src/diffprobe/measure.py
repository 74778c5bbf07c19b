"""`diffprobe measure`: the figures of generation for images from anywhere, against images or statistics of others."""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from diffprobe.config.extractors import Extractor
from diffprobe.config.models import Metrics
from diffprobe.config.names import FIGURES, promised_figure
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser what `run` reads."""
    parser.add_argument("images", type=Path, help="a folder, zip, .npz, .npy, samples (.zarr) or image store (.h5)")
    parser.add_argument("--against", type=Path, help="what they are compared with: the same, or an .npz of statistics")
    parser.add_argument(
        "--extractor",
        nargs="+",
        default=["inception"],
        metavar=("KIND", "key=value"),
        help="as in a config: inception dims=2048 weights=FILE | dinov2 size=l | torchscript weights=FILE | "
        "classifier weights=CHECKPOINT",
    )
    parser.add_argument(
        "--trusted", action="store_true", help="run the code in a torchscript file, which has your rights"
    )
    parser.add_argument(
        "--figures", nargs="+", default="all", help=f"of {', '.join(FIGURES)}; fid50k promises the number"
    )
    parser.add_argument("--size", type=int, help="bring all images to this height and width first (ADM's centre crop)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="grey or colour (default: as they are)")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, help="of image stores (default: all)")
    parser.add_argument("--subset", type=int, default=Metrics().subset, help="images that are compared one by one")
    parser.add_argument("--batch", type=int, default=Metrics().batch, help="images per pass; changes no figure")
    parser.add_argument("--processes", type=int, default=1, help="that share the pass, each on a GPU if there are some")
    parser.add_argument(
        "--save", type=Path, metavar="NPZ", help="keep the images' statistics, as pytorch-fid reads them"
    )
    parser.add_argument("--json", type=Path, help="write the figures with their receipt")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print, and write what is asked for. Raises UserError, a line."""
    refuse_unknown(arguments)
    config, weights = extractor_config(arguments.extractor, arguments.trusted)
    from diffprobe.evaluation.generation.standalone import Pass  # torch: only where something is computed

    one = Pass(
        config,
        weights,
        figures=arguments.figures,
        opening={"size": arguments.size, "channels": arguments.channels, "splits": arguments.splits},
        metrics=Metrics().model_dump() | {"subset": arguments.subset, "batch": arguments.batch},
        processes=arguments.processes,
    )
    one.refuse(arguments.images, arguments.against)
    found, about = one.over(arguments.images, everything=bool(arguments.save))
    if arguments.save:
        one.save(arguments.save, found, about)
    if arguments.against:
        rows, receipt = one.compared(found, one.reference(arguments.against))
        receipt["samples"] = about
        show(rows, receipt)
        if arguments.json:
            write_json(arguments.json, {"figures": rows, "receipt": receipt})


def refuse_unknown(arguments: argparse.Namespace) -> None:
    """What no pass should begin with."""
    if arguments.figures == ["all"]:
        arguments.figures = "all"
    for text in () if arguments.figures == "all" else arguments.figures:
        if promised_figure(text) is None:
            raise UserError(
                f"--figures {text}: no such figure; known: {', '.join(FIGURES)}, each with a number or without"
            )
    if arguments.against is None and arguments.save is None:
        raise UserError("name what to compare with (--against), or where to keep statistics (--save)")
    if arguments.json and arguments.against is None:
        raise UserError("--json: there are no figures without --against")
    if arguments.save and arguments.save.suffix != ".npz":
        raise UserError(f"--save {arguments.save}: allowed: a name that ends in .npz")
    for path in filter(None, (arguments.save, arguments.json)):
        if not os.access(next(folder for folder in path.absolute().parents if folder.exists()), os.W_OK):
            raise UserError(f"{path}: this folder cannot be written to")
    for name in ("batch", "processes", "subset"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} {getattr(arguments, name)}: allowed: a positive integer")


def extractor_config(words: list[str], trusted: bool = False) -> tuple[dict[str, Any], str | None]:
    """`inception dims=768` as a config subtree, and the file of its weights.

    Raises UserError for keys and values that the kind does not take, and for TorchScript that is not `trusted`.
    """
    kind, *pairs = words
    given: dict[str, Any] = {"kind": kind}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--extractor {pair}: expected key=value, as in dims=768")
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--extractor {pair}: not YAML after the =") from None
    if kind == "classifier":
        if set(given) != {"kind", "weights"}:
            raise UserError("--extractor classifier: name its checkpoint alone, as weights=FILE")
        return {"kind": kind}, given["weights"]
    try:
        extractor = Extractor.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"--extractor {' '.join(words)}: {'.'.join(map(str, first['loc'])) or kind}: {first['msg']}"
        ) from None
    for key, _, _ in () if trusted else extractor.problems("--extractor"):
        raise UserError(
            f"{key}: {extractor.files[0]} is a program that runs with your rights; "
            "add --trusted if you trust whoever made it"
        )
    config = extractor.model_dump(mode="json")
    return config, config["weights"]


def show(rows: list[dict[str, Any]], receipt: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", "spread", "images", box=None)
    for row in rows:
        spread = "" if row["spread"] is None else f"{row['spread']:.4g}"
        table.add_row(row["evaluator"], f"{row['value']:.6g}", spread, f"{row['images']:,}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    extractor, reference = receipt["extractor"], receipt["reference"]
    console.print(f"{extractor['name']} (weights {extractor['weights'][:12]}; images: {extractor['resize']})")
    many = "an unknown number of" if reference["images"] is None else f"{reference['images']:,}"
    console.print(f"against {many} images of {reference['origin']}")
