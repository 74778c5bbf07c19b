"""A first config for a user's own images: the images are listed and counted, the settings sized for a laptop."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from diffprobe.config.load import load, parse
from diffprobe.config.sources import Source
from diffprobe.config.sources.folder import Folder
from diffprobe.config.sources.zip import Zip
from diffprobe.data import sources
from diffprobe.data.listing import Listing
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic

SIZE = 32  # pixels: small enough for a CPU
MIN_PER_CLASS = 10  # with fewer images, some split of a class would hold only one or two
HEADER = """# yaml-language-server: $schema=schema.json
# {summary}
# Made by `diffprobe run` as a start that a laptop can bear: {size}x{size} pixels, a small U-Net, minutes of training.
# To go further raise `size`, `network.channels` and `train.checkpoints` (with a GPU by a factor of a hundred), or train
# in latents as config/config.yaml does. Every key: config/README.md.

"""


def starter(path: Path, name: str) -> str:
    """The text of a config for a folder or zip of images. Raises UserError where the images cannot be used."""
    source: Folder | Zip
    if path.suffix.lower() == ".zip":
        source = Zip(kind="zip", paths=[str(path)])
    else:
        source = Folder(kind="folder", path=str(path))
    listing = sources.find(source, {})
    smallest = min(Counter(listing.labels.tolist()).values())
    labelled = len(listing.classes) > 1 and smallest >= MIN_PER_CLASS
    if listing.classes and not labelled:
        source = source.model_copy(update={"labels": False})
    settings = config(source, name, len(listing.labels), labelled)
    parse(settings)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
    return HEADER.format(summary=summary(listing, labelled, path), size=SIZE) + text


def summary(listing: Listing, labelled: bool, path: Path) -> str:
    """One line on what the source holds."""
    counted = f"{len(listing.labels):,} images of {str(path)!a}"
    if labelled:
        return f"{counted} in {len(listing.classes)} classes."
    why = ""
    if listing.classes:
        why = " (only one class)" if len(listing.classes) == 1 else f" (a class has fewer than {MIN_PER_CLASS})"
    return f"{counted}, without labels{why}: no probe."


def config(source: Source, name: str, images: int, labelled: bool) -> dict[str, Any]:
    """The config as plain data."""
    network = {"kind": "unet", "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "attention": [2], "groups": 8}
    experiment: dict[str, Any] = {
        "dataset": name,
        "network": network,
        "process": {"kind": "edm"},
        "train": {
            "checkpoints": [6, 12],
            "batch": 32,
            "warmup_kimg": 1,
            "averages": {"ema": {"kind": "half_life", "kimg": 4, "ramp": 0.1}},
        },
        "sample": {"samplers": {"heun18": {"kind": "heun", "steps": 18}}, "images": min(images, 200)},
        "generation": {"extractors": []},  # without labels only memorisation is checked
    }
    extractors = {}
    if labelled:
        extractors = {f"{name}_classifier": {"kind": "classifier", "dataset": name}}
        experiment["generation"] = {"extractors": [f"{name}_classifier"]}
        experiment["probe"] = {"levels": [0.05, 0.1, 0.2, 0.5]}
    return {
        "results": f"results/{name}",
        "datasets": {name: {"source": source.model_dump(mode="json", exclude_unset=True), "size": SIZE}},
        **({"extractors": extractors} if extractors else {}),
        "experiments": {f"{name}_edm": experiment},
        "threads": {"train": 1},
    }


def config_for(target: Path, name: str | None, folder: Path) -> Path:
    """The config to run: `target` itself, or one for the images at `target`, which the first run writes to `folder`.

    Raises UserError where the images cannot be used, and where the config that exists is for other images.
    """
    if target.suffix in (".yaml", ".yml"):
        return target
    path = target.expanduser().absolute()
    name = name or re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_") or "mine"
    config_path = folder / f"{name}.yaml"
    if "$" in str(path):
        raise UserError(f"{str(path)!a}: `$` in a config's path begins a variable; rename the file or folder")
    if config_path.exists():
        if not any(str(path) in dataset.source.local_paths for dataset in load(config_path).datasets.values()):
            raise UserError(f"{config_path}: is a config for something else than {str(path)!a}; choose another --name")
        return config_path
    text = starter(path, name)
    with atomic(config_path) as partial:
        partial.write_text(text)
    print(f"{config_path}: written for {str(path)!a}; edit it and run again to go further", file=sys.stderr)
    return config_path
