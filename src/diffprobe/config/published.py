"""Facts about a published autoencoder before it is loaded, read from its folder and its config.json."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diffprobe.config.diffusers_models import (
    AutoencoderConfig,
    Described,
    KLConfig,
    TinyConfig,
    WeightsIndex,
    check,
    read_object,
)
from diffprobe.config.problems import Problem
from diffprobe.runtime.errors import one_line

if TYPE_CHECKING:
    from diffprobe.config.autoencoders import Pretrained

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PLACES = ("", "vae")  # the autoencoder's place: a folder of its own, or a pipeline's sub-folder
# On disk also what diffusers' training scripts write: averages, which come first, beside the raw weights.
FOLDERS = ("", "vae_ema", "autoencoderkl_ema", "vae", "autoencoderkl")
HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # a model's name on the hub: OWNER/MODEL
HALF = "diffusion_pytorch_model.fp16.safetensors"  # all that some repositories have
# As `save_pretrained` writes weights: NAME.VARIANT.safetensors, or in several files with an index beside them.
SAVED = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"  # the last two by accelerate and transformers
    r"(?:(?:\.(?P<variant>\w+))?\.(?P<format>safetensors|bin)"
    r"|\.(?P<of>safetensors|bin)(?P<index>\.index)(?:\.(?P<part>\w+))?\.json)"
)
SHARD = re.compile(r"\w[\w.-]*\.(safetensors|bin)")  # a file that an index names
RAW = "non_ema"  # the variant with weights that are not averaged
# Variants by preference: what has no variant, averages, then the most precise; the raw weights come last.
VARIANTS = ("", "ema", "fp32", "bf16", "fp16")
MODELS: dict[str, type[Described]] = {"AutoencoderKL": KLConfig, "AutoencoderTiny": TinyConfig}
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
    """The facts in a config.json, with diffusers' defaults. The config is `read_config`'s."""
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
    """The folder that holds config.json: `source`, or in it the average or its `vae`. Raises ValueError, saying what is
    allowed.
    """
    for place in FOLDERS:
        if (Path(source) / place / CONFIG).is_file():
            return Path(source) / place
    raise ValueError(f"a folder with the {CONFIG} of an {KINDS} (or of a pipeline, with vae/{CONFIG})")


def weights_file(folder: Path) -> Path:
    """The file of weights in a model's folder, or the index of those in several files; of several variants the
    preferred. Raises ValueError, saying what is allowed.
    """
    saved = [path for path in sorted(folder.iterdir()) if SAVED.fullmatch(path.name) and path.is_file()]
    if not saved:
        raise ValueError(f"a folder with {' or '.join(WEIGHTS)} beside its {CONFIG}")
    return min(saved, key=preference)


def variant(weights: Path) -> str:
    """The variant that a file's name says; empty without one."""
    name = SAVED.fullmatch(weights.name)
    return (name["variant"] or name["part"] or "") if name else ""


def preference(weights: Path) -> tuple[bool, int, bool, bool]:
    """diffusers' own names first. Then variants in their order, others between those and the raw. Then one file before
    several, and pickles last.
    """
    name, of = SAVED.fullmatch(weights.name), variant(weights)
    assert name
    rank = VARIANTS.index(of) if of in VARIANTS else len(VARIANTS) + (of == RAW)
    return name["stem"] != "diffusion_pytorch_model", rank, bool(name["index"]), "bin" in (name["format"], name["of"])


def weights_files(weights: Path) -> list[Path]:
    """The files that hold a model's weights: `weights` itself, or those that it is the index of.

    Raises ValueError, saying what is allowed, for an index that is damaged, or names files that are not beside it.
    """
    if weights.suffix != ".json":
        return [weights]
    try:
        names = sorted(set(read_object(weights, WeightsIndex)["weight_map"].values()))
    except (OSError, ValueError):
        names = []
    # A name with a folder in it could be any file of the disk.
    shards = [weights.with_name(name) for name in names if SHARD.fullmatch(name)]
    if not shards or len(shards) < len(names) or not all(shard.is_file() for shard in shards):
        missing = next((shard.name for shard in shards if not shard.is_file()), "the files of weights")
        raise ValueError(f"a folder with {missing}, as {weights.name} lists them")
    return shards


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json. Raises ValueError, saying what is allowed, if it is not an autoencoder's."""
    allowed = f"a folder whose {CONFIG} is that of an {KINDS}"
    try:
        config = read_object(folder / CONFIG, AutoencoderConfig)
        kind = config.get("_class_name")
        if not isinstance(kind, str) or kind not in MODELS:
            raise ValueError(allowed)
        check(config, MODELS[kind])
    except OSError:
        raise ValueError(allowed) from None
    except ValueError as error:
        reason = one_line(error)
        raise ValueError(allowed if reason == allowed else f"{allowed} ({reason})") from None
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
            weights_files(weights_file(folder))
        except ValueError as error:
            yield key, source, str(error)
        else:
            if key == "source":
                yield from mismatches(entry, facts(config), f"{folder}/{CONFIG}")


def local_files(entry: "Pretrained") -> list[str]:
    """The existing files of an entry's local folders."""
    files: list[Path] = []
    for folder in (Path(source) / place for source in entry.local_sources.values() for place in FOLDERS):
        inside = [folder / name for name in (CONFIG, *WEIGHTS)]
        with suppress(OSError, ValueError):  # no such folder, or no weights in it
            weights = weights_file(folder)
            inside += [weights, *weights_files(weights)]
        files += dict.fromkeys(inside)
    return [str(file) for file in files if file.is_file()]
