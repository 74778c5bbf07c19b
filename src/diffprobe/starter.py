"""A first config for images of one's own: looked at, counted, and written with settings that a laptop can bear."""

import re
import sys
from collections import Counter
from pathlib import Path

import yaml

from diffprobe.config.datasets import Source
from diffprobe.config.load import load, parse
from diffprobe.data import sources
from diffprobe.data.listing import Listing
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic

SIZE = 32  # pixels: small enough for a CPU
FEWEST = 10  # images of a class, below which its splits would hold one or two
HEADER = """# yaml-language-server: $schema=schema.json
# {what}
# Made by `diffprobe run` as a start that a laptop can bear: {size}x{size} pixels, a small U-Net, minutes of training.
# To go further raise `size`, `network.channels` and `train.checkpoints` (with a GPU by a factor of a hundred), or train
# in latents as config/config.yaml does. Every key: config/README.md.

"""


def starter(path: Path, name: str) -> str:
    """The text of a config for a folder or zip of images. Raises UserError where it holds none."""
    kind = "zip" if path.suffix.lower() == ".zip" else "folder"
    source = {"kind": kind, **({"paths": [str(path)]} if kind == "zip" else {"path": str(path)})}
    listing = sources.find(source | {"labels": True}, {})
    smallest = min(Counter(listing.labels.tolist()).values())
    labelled = len(listing.classes) > 1 and smallest >= FEWEST
    if listing.classes and not labelled:
        source["labels"] = False
    raw = config(source, name, len(listing.labels), labelled)
    parse(raw)
    return HEADER.format(what=found(listing, labelled, path), size=SIZE) + yaml.safe_dump(
        raw, sort_keys=False, allow_unicode=True, width=120
    )


def found(listing: Listing, labelled: bool, path: Path) -> str:
    """What was seen, in a line."""
    counted = f"{len(listing.labels):,} images of {str(path)!a}"
    if labelled:
        return f"{counted} in {len(listing.classes)} classes."
    why = ""
    if listing.classes:
        why = " (one class only)" if len(listing.classes) == 1 else f" (a class has fewer than {FEWEST})"
    return f"{counted}, without labels{why}: no probe."


def config(source: dict, name: str, images: int, labelled: bool) -> dict:
    """The config as plain data."""
    experiment: dict = {
        "dataset": name,
        "network": {
            "kind": "unet",
            "channels": 32,
            "multipliers": [1, 2, 2],
            "blocks": 1,
            "attention": [2],
            "groups": 8,
        },
        "process": {"kind": "edm"},
        "train": {
            "checkpoints": [6, 12],
            "batch": 32,
            "warmup_kimg": 1,
            "averages": {"ema": {"kind": "half_life", "kimg": 4, "ramp": 0.1}},
        },
        "sample": {"samplers": {"heun18": {"kind": "heun", "steps": 18}}, "images": min(images, 200)},
    }
    extractors, experiment["generation"] = {}, {"extractors": []}  # without labels: whether samples are copies
    if labelled:
        extractors = {f"{name}_classifier": {"kind": "classifier", "dataset": name}}
        experiment["generation"] = {"extractors": [f"{name}_classifier"]}
        experiment["probe"] = {"levels": [0.05, 0.1, 0.2, 0.5]}
    return {
        "results": f"results/{name}",
        "datasets": {name: {"source": source, "size": SIZE}},
        **({"extractors": extractors} if extractors else {}),
        "experiments": {f"{name}_edm": experiment},
        "threads": {"train": 1},
    }


def config_for(what: Path, name: str | None, folder: Path) -> Path:
    """The config to run: `what` itself, or one for the images in it, written into `folder` the first time.

    Raises UserError where the images cannot be used.
    """
    if what.suffix in (".yaml", ".yml"):
        return what
    name = name or re.sub(r"[^A-Za-z0-9]+", "_", what.expanduser().absolute().stem).strip("_") or "mine"
    target = folder / f"{name}.yaml"
    path = what.expanduser().absolute()
    if "$" in str(path):
        raise UserError(f"{str(path)!a}: a config takes `$` for the begin of a variable; give it another name")
    if target.exists():
        sources = [dataset.source for dataset in load(target).datasets.values()]
        if str(path) not in [place for source in sources for place in places(source)]:
            raise UserError(f"{target}: is a config for something else than {str(path)!a}; give another --name")
        return target
    text = starter(path, name)
    with atomic(target) as partial:
        partial.write_text(text)
    print(f"{target}: written for {str(path)!a}; edit it and run again to go further", file=sys.stderr)
    return target


def places(source: Source) -> list[str]:
    """Where a source lies on this machine."""
    return [source.path] if hasattr(source, "path") else getattr(source, "paths", [])
