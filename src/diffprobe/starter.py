"""A first config for a user's own images: the images are listed and counted, the settings sized for a laptop."""

import re
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from diffprobe.config.load import load, parse
from diffprobe.config.models import Config
from diffprobe.config.sources import Source
from diffprobe.config.sources.folder import Folder
from diffprobe.config.sources.zip import Zip
from diffprobe.data import sources
from diffprobe.data.filenames import display
from diffprobe.data.listing import Listing
from diffprobe.data.prepared import divide, prepare
from diffprobe.plan.layout import Layout
from diffprobe.reporting import dataset as seen
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import atomic
from diffprobe.runtime.places import config_file

SIZE = 32  # pixels: small enough for a CPU
MIN_PER_CLASS = 10  # with fewer images, some split of a class would hold only one or two
HEADER = """# yaml-language-server: $schema={schema}
# {summary}
# Made by `diffprobe run` as a start for a laptop: {size}x{size} pixels, a small U-Net, minutes of training.
# To go further raise `size`, `network.channels` and `train.checkpoints` (with a GPU by a factor of a hundred), or train
# in latents as {demo} does. Every key: {keys}

"""


def source_of(path: Path, labels: bool) -> Folder | Zip:
    """The source of a folder or zip of images."""
    # A key that is left at its default is not written to the config.
    off = {} if labels else {"labels": False}
    if path.suffix.lower() == ".zip" and not path.is_dir():
        return Zip(kind="zip", paths=[str(path)], **off)
    return Folder(kind="folder", path=str(path), **off)


def starter(path: Path, name: str, labels: bool = True) -> str:
    """The text of a config for a folder or zip of images, after a table of what was seen of them.

    Raises UserError where the images cannot be used.
    """
    source = source_of(path, labels)
    listing = sources.find(source, {})
    why = why_unlabelled(listing, labels)
    if listing.classes and why:
        source, notes = source.model_copy(update={"labels": False}), listing.survey.notes
        listing = sources.find(source, {})  # with the images that had no label
        listing = replace(listing, survey=replace(listing.survey, notes=notes))
    settings = config(source, name, len(listing.labels), labelled=not why)
    dataset = parse(settings).datasets[name]
    more = [("labels off", f"{why}: no probe, and no figure that needs a classifier")] if why else []
    seen.show(name, seen.facts(dataset, divide(dataset, listing)), more)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
    demo, keys, schema = (config_file(f"config/{name}") for name in ("config.yaml", "README.md", "schema.json"))
    beside = schema if schema.is_absolute() else schema.name  # as an editor looks for it, from the config on
    return HEADER.format(summary=summary(listing, why, path), size=SIZE, demo=demo, keys=keys, schema=beside) + text


def why_unlabelled(listing: Listing, labels: bool = True) -> str:
    """Why the labels of a listing are not used; "" if they are."""
    counts = dict(zip(listing.classes, np.bincount(listing.labels[listing.labels >= 0]).tolist(), strict=True))
    small = {name: count for name, count in counts.items() if count < MIN_PER_CLASS}
    if not labels:
        return "--no-labels"
    if not counts:
        return "no class folders, and no file with labels"
    if len(counts) == 1:
        return f"only one class, {display(next(iter(counts)))}"
    if small:
        named = ", ".join(f"{display(name)} has {count}" for name, count in list(small.items())[:3])
        more = f" and {len(small) - 3} more" if len(small) > 3 else ""
        return f"a class needs {MIN_PER_CLASS} images, but {named}{more}; add images, or take the class out"
    return ""


def summary(listing: Listing, why: str, path: Path) -> str:
    """One line on what the source holds."""
    counted = f"{len(listing.labels):,} images of {str(path)!a}"
    return f"{counted}, without labels ({why}): no probe." if why else f"{counted} in {len(listing.classes)} classes."


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


def show_own(config: Config, but: Collection[str] = ()) -> None:
    """Print what the folders and zips of a config hold now, save those of the datasets `but`.

    Raises UserError for a source that cannot be read, unless images were imported from it before, which are kept, or
    are still to be fetched.
    """
    layout = Layout(config.results)
    for name, dataset in config.datasets.items():
        if name not in but and isinstance(dataset.source, Folder | Zip):
            try:
                seen.show(name, seen.facts(dataset, prepare(dataset, {})))
            except UserError as error:
                if not Path(layout.images(name)).exists() and not dataset.source.remote_files:
                    raise UserError(f"datasets.{name}: {error}") from None
                print(f"datasets.{name}: {error}", file=sys.stderr)


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte of a name that is in another encoding
        return False
    return True


def config_for(target: Path, name: str | None, folder: Path, labels: bool = True) -> Path:
    """The config to run: `target` itself, or one for the images at `target`, which the first run writes to `folder`.

    Raises UserError where the images cannot be used, and where the config that exists is for other images.
    """
    if target.suffix in (".yaml", ".yml"):
        if not labels:
            raise UserError(f"--no-labels is for a folder or zip of images; in {target} set `labels: false`")
        return target
    path = target.expanduser().absolute()
    name = name or re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_") or "mine"
    config_path = folder / f"{name}.yaml"
    if "$" in str(path):
        raise UserError(f"{str(path)!a}: `$` in a config's path begins a variable; rename the file or folder")
    if not is_unicode(str(path)):
        raise UserError(f"{str(path)!a}: not in UTF-8, which a config is in; rename the file or folder")
    if config_path.exists():
        sources = [dataset.source for dataset in load(config_path).datasets.values()]
        own = [source for source in sources if str(path) in source.local_paths]
        if not own:
            raise UserError(f"{config_path}: is a config for something else than {str(path)!a}; choose another --name")
        if not labels and any(getattr(source, "labels", False) for source in own):
            raise UserError(f"{config_path}: reads labels; set `labels: false` in its source, or choose another --name")
        return config_path
    text = starter(path, name, labels)
    with atomic(config_path) as partial:
        partial.write_text(text)
    print(f"{config_path}: written for {str(path)!a}; edit it and run again to go further", file=sys.stderr)
    return config_path
