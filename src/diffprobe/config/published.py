"""Facts about a published autoencoder before it is loaded, read from its folder and its config.json."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.autoencoders import Pretrained

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PLACES = ("", "vae")  # the autoencoder's place: a folder of its own, or a pipeline's sub-folder
HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # a model's name on the hub: OWNER/MODEL
KINDS = "AutoencoderKL or AutoencoderTiny"
# For each class, the key with one item per level, and diffusers' default for it.
LEVELS: dict[str, tuple[str, list[int]]] = {
    "AutoencoderKL": ("block_out_channels", [64]),
    "AutoencoderTiny": ("num_encoder_blocks", [1, 3, 3, 3]),
}


class ModelFacts(NamedTuple):
    """What a config.json says about the shapes of its model."""

    channels: int  # of the images it encodes
    channels_out: int  # of the images it decodes
    latent_channels: int
    factor: int  # of downsampling


def facts(config: Mapping[str, Any]) -> ModelFacts:
    """The facts in a config.json, with diffusers' defaults. Raises KeyError if it is not an autoencoder's."""
    key, default = LEVELS[config["_class_name"]]
    return ModelFacts(
        channels=config.get("in_channels", 3),
        channels_out=config.get("out_channels", 3),
        latent_channels=config.get("latent_channels", 4),
        factor=2 ** (len(config.get(key, default)) - 1),  # every level but one halves the resolution
    )


def is_local(source: str) -> bool:
    """Whether a source is a folder (which need not exist) rather than a name on the hub."""
    return HUB.fullmatch(source) is None or Path(source).exists()


def model_folder(source: str) -> Path:
    """The folder that holds config.json: `source` or its `vae`. Raises ValueError, saying what is allowed."""
    for place in PLACES:
        if (Path(source) / place / CONFIG).is_file():
            return Path(source) / place
    raise ValueError(f"a folder with the {CONFIG} of an {KINDS} (or of a pipeline, with vae/{CONFIG})")


def weights_file(folder: Path) -> Path:
    """The weights in a model's folder. Raises ValueError, saying what is allowed."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"a folder with {' or '.join(WEIGHTS)} beside its {CONFIG}")


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json. Raises ValueError, saying what is allowed, if it is not an autoencoder's."""
    try:
        config = json.loads((folder / CONFIG).read_text())
        facts(config)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(f"a folder whose {CONFIG} is that of an {KINDS}") from None
    return config


def mismatches(entry: "Pretrained", model: ModelFacts, origin: str) -> Iterator[Problem]:
    """Keys of a config entry that contradict its model; `origin` names the model's config.json."""
    for key in ("channels", "latent_channels", "factor"):
        if getattr(entry, key) != getattr(model, key):
            yield key, getattr(entry, key), f"{getattr(model, key)}, as in {origin}"
    if model.channels != model.channels_out:
        allowed = f"a model with as many channels out as in, not {model.channels} to {model.channels_out}"
        yield "source", entry.source, allowed


def local_problems(entry: "Pretrained") -> Iterator[Problem]:
    """Problems of an entry's folders, if they exist. Models on the hub are checked when they are loaded."""
    for key, source in (("source", entry.source), ("decoder", entry.decoder)):
        if not source or not Path(source).exists():
            continue
        try:
            folder = model_folder(source)
            config = read_config(folder)
            weights_file(folder)
        except ValueError as error:
            yield key, source, str(error)
        else:
            if key == "source":
                yield from mismatches(entry, facts(config), f"{folder}/{CONFIG}")


def local_files(entry: "Pretrained") -> list[str]:
    """The existing files of an entry's local folders."""
    folders = [Path(source) / place for source in entry.local_sources.values() for place in PLACES]
    files = [folder / name for folder in folders for name in (CONFIG, *WEIGHTS)]
    return [str(file) for file in files if file.is_file()]
