"""`diffprobe measure`: the figures of generation for images from anywhere, against other images or statistics."""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from diffprobe.config.extractors import Extractor
from diffprobe.config.load import ConfigLoader
from diffprobe.config.mistakes import escaped, shown
from diffprobe.config.models import Metrics
from diffprobe.config.names import FIGURES, promised_figure
from diffprobe.data.npy import KEY, npz_keys
from diffprobe.data.splits import SPLITS
from diffprobe.plan.arguments import parse_extractor
from diffprobe.runtime.allocator import keep_freed_memory
from diffprobe.runtime.command import named_path, pixels_a_side, positive_integer, process_count
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import disk_errors, recorded, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add to a parser the arguments that `run` reads."""
    parser.add_argument(
        "images", type=named_path, help="a folder, zip, .npz, .npy, samples (.zarr) or image store (.h5)"
    )
    parser.add_argument(
        "--against", type=named_path, help="images of any of these kinds to compare with, or .npz statistics"
    )
    parser.add_argument(
        "--extractor",
        nargs="+",
        default=["inception"],
        metavar=("KIND", "key=value"),
        help="as in a config: inception dims=2048 weights=FILE | dinov2 size=l | torchscript weights=FILE | "
        "timm model=NAME weights=FILE | classifier weights=CHECKPOINT",
    )
    parser.add_argument(
        "--trusted", action="store_true", help="run the code in a torchscript file, which has your rights"
    )
    parser.add_argument(
        "--figures", nargs="+", default="all", help=f"of {', '.join(FIGURES)}; fid50k insists on that number"
    )
    parser.add_argument(
        "--size", type=pixels_a_side, help="height and width to resize all images to (by ADM's centre crop)"
    )
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), help="grey or colour (default: as they are; files in colour)"
    )
    parser.add_argument("--splits", nargs="+", choices=SPLITS, help="of image stores (default: all)")
    parser.add_argument(
        "--subset", type=positive_integer, default=Metrics().subset, help="images that are compared one by one"
    )
    parser.add_argument(
        "--batch", type=positive_integer, default=Metrics().batch, help="images per pass; changes no figure"
    )
    parser.add_argument(
        "--processes", type=process_count, default=1, help="share the pass, each with its own GPU if possible"
    )
    parser.add_argument(
        "--save", type=named_path, metavar="NPZ", help="keep the images' statistics, as pytorch-fid reads them"
    )
    parser.add_argument("--json", type=named_path, help="write the figures with their receipt")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print, and write what is requested. Raises UserError for arguments and files that do not allow it."""
    request = figure_request(arguments.figures)
    refuse(arguments)
    settings, weights = extractor_of(arguments.extractor, arguments.trusted)
    from diffprobe.evaluation.generation.standalone import Comparison  # torch: only to compute something

    keep_freed_memory()
    metrics = Metrics(subset=arguments.subset, batch=arguments.batch)
    opening = arguments.size, arguments.channels, arguments.splits
    comparison = Comparison(settings, weights, request, metrics, opening, arguments.processes)
    comparison.refuse(arguments.images, arguments.against)
    statistics, about = comparison.collect(arguments.images, every_figure=bool(arguments.save))
    if arguments.save:
        with disk_errors(arguments.save):
            comparison.save(arguments.save, statistics, about)
    if arguments.against:
        rows, receipt = comparison.figures(statistics, comparison.reference(arguments.against))
        receipt["samples"] = about
        show(rows, receipt)
        if arguments.json:
            with disk_errors(arguments.json):
                write_json(arguments.json, {"figures": rows, "receipt": receipt})


def figure_request(names: list[str] | str) -> list[str] | Literal["all"]:
    if names in ("all", ["all"]):
        return "all"
    for text in names:
        if promised_figure(text) is None:
            raise UserError(f"--figures {text}: no such figure; expected {', '.join(FIGURES)}, or one as fid50k")
    return list(names)


def refuse(arguments: argparse.Namespace) -> None:
    """Raises UserError for arguments that cannot work."""
    if arguments.against is None and arguments.save is None:
        raise UserError("name what to compare with (--against), or where to keep statistics (--save)")
    if arguments.json and arguments.against is None:
        raise UserError("--json: there are no figures without --against")
    if arguments.save and arguments.save.suffix != ".npz":
        raise UserError(f"--save {arguments.save}: expected a name that ends in .npz")
    for path in filter(None, (arguments.save, arguments.json)):
        folder = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise UserError(f"{path}: {folder} is no folder that can be written to; choose another name")
    if arguments.save and arguments.save.exists() and not is_own(npz_keys(arguments.save)):
        raise UserError(f"--save {arguments.save}: exists and holds no statistics to replace; choose another name")
    if arguments.json and arguments.json.exists() and recorded(arguments.json, "figures") is None:
        raise UserError(f"--json {arguments.json}: exists and holds no figures to replace; choose another name")
    places = {os.path.realpath(path): f"what {use}" for path, use in uses(arguments)}
    for option, path in (("--save", arguments.save), ("--json", arguments.json)):
        if path and (use := places.pop(os.path.realpath(path), None)):
            raise UserError(f"{option} {path}: is {use}; choose another name")
        if path:
            places[os.path.realpath(path)] = f"{option}'s file too"


def uses(arguments: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """What is read, and for what."""
    yield arguments.images, "is measured"
    if arguments.against:
        yield arguments.against, "it is compared with"


def is_own(keys: Sequence[str]) -> bool:
    """Whether an .npz with these arrays is one that `--save` has written; ADM's statistics hold images too."""
    return {"mu", "about"} <= set(keys) and KEY.removesuffix(".npy") not in keys


def extractor_of(words: list[str], trusted: bool) -> tuple[Extractor, Path | None]:
    """`inception dims=768 weights=FILE` as an extractor of a config, and the file of its weights if that is separate.

    Raises UserError for keys and values that the kind does not take, and for TorchScript that is not `trusted`.
    """
    kind, *pairs = words
    entry: dict[str, Any] = {"kind": kind}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--extractor {brief(pair)}: expected key=value, as in dims=768")
        if key in entry:
            raise UserError(f"--extractor {brief(pair)}: {brief(key)} is given twice; leave one out")
        try:
            # Outside quotes and brackets ` #` would begin a comment; here it is part of a file's name.
            entry[key] = value if " #" in value and value[0] not in "\"'[{" else yaml.load(value, ConfigLoader)
        except (yaml.YAMLError, ValueError, UserError):  # ValueError: an impossible date
            raise UserError(f"--extractor {brief(pair)}: not YAML after the =; correct it") from None
    if kind == "classifier":  # of a trained one only the checkpoint is needed
        if set(entry) != {"kind", "weights"} or not isinstance(entry["weights"], str):
            raise UserError("--extractor classifier: name its checkpoint alone, as weights=FILE")
        return parse_extractor({"kind": kind}), Path(entry["weights"])
    try:
        extractor = Extractor.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or kind
        line = f"{' '.join(map(brief, words))}: {brief(place)}: {escaped(first['msg'])}"
        raise UserError(f"--extractor {line}; correct it") from None
    for key, _, _ in () if trusted else extractor.problems("--extractor"):
        raise UserError(
            f"{key}: {extractor.files[0]} is a program that runs with your rights; "
            "add --trusted if you trust whoever made it"
        )
    return extractor, None


def brief(word: str) -> str:
    """A word of the command line in an error: as it is, or escaped and shortened."""
    return word if word.isprintable() and len(word) <= 80 else shown(word)


def show(rows: Sequence[Mapping[str, Any]], receipt: dict[str, Any]) -> None:
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
