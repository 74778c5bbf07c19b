"""What a published autoencoder tells of itself before it is loaded: its folder, and its config.json as plain data."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffprobe.config.problems import Problem

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PLACES = ("", "vae")  # where the autoencoder lies: in a folder of its own, or in a pipeline's
HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # the name of a model there: OWNER/MODEL
KINDS = "AutoencoderKL or AutoencoderTiny"
# The keys that are read here, with diffusers' defaults for those that a config.json leaves out.
READ: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [64]},
    "AutoencoderTiny": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "num_encoder_blocks": [1, 3, 3, 3],
    },
}


def is_local(source: str) -> bool:
    """Whether a source is a folder (there or not) rather than a name on the hub."""
    return HUB.fullmatch(source) is None or Path(source).exists()


def model_folder(source: str) -> Path:
    """The folder with the model's config.json: `source`, or its `vae`. Raises ValueError, with what is allowed."""
    for place in PLACES:
        if (Path(source) / place / CONFIG).is_file():
            return Path(source) / place
    raise ValueError(f"a folder with the {CONFIG} of an {KINDS} (or a pipeline's, with vae/{CONFIG})")


def weights_file(folder: Path) -> Path:
    """The file of weights in a model's folder. Raises ValueError, with what is allowed."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"a folder with {' or '.join(WEIGHTS)} beside its {CONFIG}")


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json. Raises ValueError, with what is allowed, where it is no autoencoder's."""
    try:
        config = json.loads((folder / CONFIG).read_text())
        told(config)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(f"a folder whose {CONFIG} is that of an {KINDS}") from None
    return config


def told(config: Mapping[str, Any]) -> dict[str, int]:
    """`channels`, `latent_channels`, `factor` of a model, as its config.json says. Raises KeyError for another kind."""
    known = {key: config.get(key, default) for key, default in READ[config["_class_name"]].items()}
    widths = known.get("block_out_channels") or known["num_encoder_blocks"]
    return {
        "channels": known["in_channels"],
        "latent_channels": known["latent_channels"],
        "factor": 2 ** (len(widths) - 1),  # each level but one halves the resolution
    }


def wrong(asked: Mapping[str, Any], config: Mapping[str, Any], whence: str) -> Iterator[Problem]:
    """What of an autoencoder's entry in a config is not as the model has it; `whence` names its config.json."""
    for key, value in told(config).items():
        if asked[key] != value:
            yield key, asked[key], f"{value}, as {whence} has it"
    ends = [config.get(key, 3) for key in ("in_channels", "out_channels")]
    if ends[0] != ends[1]:
        yield "source", asked["source"], f"a model that decodes what it encodes, not {ends[0]} channels to {ends[1]}"


def local_problems(asked: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with those of an entry's folders that are there; of names on the hub only loading will tell."""
    for key in ("source", "decoder"):
        if not asked[key] or not Path(asked[key]).exists():
            continue
        try:
            folder = model_folder(asked[key])
            config = read_config(folder)
            weights_file(folder)
        except ValueError as error:
            yield key, asked[key], str(error)
        else:
            if key == "source":
                yield from wrong(asked, config, f"{folder}/{CONFIG}")


def local_files(asked: Mapping[str, Any]) -> list[str]:
    """The files that a local source consists of, as far as they are there."""
    files = []
    for source in (asked["source"], asked["decoder"]):
        if source and is_local(source):
            names = [Path(place) / name for place in PLACES for name in (CONFIG, *WEIGHTS)]
            files += [str(Path(source) / name) for name in names if (Path(source) / name).is_file()]
    return files
