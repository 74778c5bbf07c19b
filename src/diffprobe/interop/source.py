"""Files that others made: read as data alone, so that none can run code."""

import argparse
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import safetensors.torch
import torch

from diffprobe.config.diffusers_models import Described, TransformerConfig, UNet2DConfig, read_object
from diffprobe.config.problems import Problem
from diffprobe.config.published import HALF, HUB, RAW, WEIGHTS, variant, weights_file, weights_files
from diffprobe.interop.names import State
from diffprobe.interop.wrappers import unwrapped, weights_of
from diffprobe.networks.statedicts import first_line, refuse_wrong_checksum
from diffprobe.runtime.errors import UserError

TENSORS = (".safetensors",)
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
AVERAGE, RAW_FOLDER = "unet_ema", "unet"  # side by side in a checkpoint of diffusers' training scripts
TRANSFORMER = "transformer"  # in a DiTPipeline
PLACES = ("", AVERAGE, RAW_FOLDER, TRANSFORMER)  # where a model's folder is looked for
# The models that are read, by the class that their config.json names.
MODELS: dict[str, type[Described]] = {
    "UNet2DModel": UNet2DConfig,
    "DiTTransformer2DModel": TransformerConfig,
    "Transformer2DModel": TransformerConfig,
}


class SourceWeights(NamedTuple):
    """Weights as a source holds them, and what an experiment must be to have them."""

    file: Path
    sets: dict[str, State]  # sets of weights under their own names
    network: dict[str, Any]  # required values of keys of the experiment's network
    process: dict[str, Any]  # and of its process, as far as the source says
    problems: tuple[Problem, ...] = ()  # with the experiment's process, beyond single values
    files: tuple[Path, ...] = ()  # that `file` is the index of
    note: str = ""  # what the user should hear of it


def read(path: Path) -> dict[str, Any]:
    """The content of a file of weights: tensors by name, or for a pickle whatever PyTorch's reader of plain data and
    argparse.Namespace makes of it. Tensors stay in the file until they are used, except in a pickle's older forms.

    Raises UserError.
    """
    if path.suffix not in (*TENSORS, *PICKLES):
        raise UserError(f"{path}: expected a file that ends in one of {', '.join((*TENSORS, *PICKLES))}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        if path.suffix in TENSORS:
            return safetensors.torch.load_file(path)
        # DDAE's checkpoints hold their command line, which is plain data too.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=can_be_mapped(path))
        refuse_wrong_checksum(path)
    except UnpicklingError as error:
        raise UserError(f"{path}: {refusal(str(error))}") from None
    except Exception as error:  # each format has its own exceptions for a truncated or foreign file
        raise UserError(f"{path}: cannot be read ({first_line(error)}); download or save it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected tensors by name, not {type(content).__name__}")
    return content


def can_be_mapped(path: Path) -> bool:
    """Whether a pickle's tensors lie in its file as in memory: in a zip archive, as since PyTorch 1.6, uncompressed."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def read_model(weights: Path) -> State:
    """The tensors of a model that diffusers saved, wrapped or not; `weights` may be the index of several files.

    Raises UserError.
    """
    state: State = {}
    try:
        files = weights_files(weights)
    except ValueError as error:
        raise UserError(f"{weights}: expected {error}; download the model again") from None
    for file in files:
        state |= unwrapped(weights_of(read(file)), str(file))
    return state


def refusal(message: str) -> str:
    """Why PyTorch would not read a pickle, in a line."""
    name = re.search(r"GLOBAL (\S+)", message)
    what = f"it asks for {name[1]}" if name else "it is no file of tensors that PyTorch wrote"
    return f"refused, since {what}, and reading such a pickle could run code; save its tensors alone"


def diffusers_folder(source: str) -> Path:
    """The folder with a model's config.json: `source` or that of the file `source`, in it the average or else its
    `unet`, or a hub id's local copy. Raises UserError.
    """
    folder = Path(source).parent if Path(source).is_file() else Path(source)
    if not folder.exists() and HUB.fullmatch(source):
        folder = downloaded(source)
    for place in PLACES:
        if (folder / place / "config.json").is_file():
            return folder / place
    raise UserError(
        f"{source}: no such folder of a diffusers model (with its config.json, or unet/ or transformer/config.json); "
        "check the path"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a UNet2DModel or DiTTransformer2DModel. Raises UserError."""
    path = folder / "config.json"
    kind = read_settings(path, Described).get("_class_name")
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(f"{path}: describes a {kind}; expected a UNet2DModel or DiTTransformer2DModel")
    return read_settings(path, MODELS[kind])


def read_settings(path: Path, model: type[Described]) -> dict[str, Any]:
    """A JSON file that `model` describes. Raises UserError."""
    try:
        return read_object(path, model)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}; download the model again") from None


def diffusers_weights(folder: Path) -> Path:
    """The file of weights in a model's folder. Raises UserError."""
    try:
        return weights_file(folder)
    except ValueError:
        raise UserError(f"{folder}: no {' or '.join(WEIGHTS)} there; download the model again") from None


def which_weights(weights: Path) -> str:
    """What else there is to say of a file of weights: whether they are the average, where there are both."""
    folder = weights.absolute().parent  # not resolved: the hub's cache links its files to others
    beside = folder.parent
    if folder.name == AVERAGE and (beside / RAW_FOLDER / "config.json").is_file():
        return f"the average; the raw weights are in {beside / RAW_FOLDER}"
    if folder.name == RAW_FOLDER and (beside / AVERAGE / "config.json").is_file():
        return f"the raw weights; the average is in {beside / AVERAGE}"
    return "the raw weights, not averaged, as the name says" if variant(weights) == RAW else ""


def downloaded(name: str) -> Path:
    """A model of the hub in its cache, downloaded now if it is not there; pickles only for want of safetensors."""
    from huggingface_hub import snapshot_download

    try:
        for weights in (*WEIGHTS, HALF):  # the second, a pickle, is downloaded only where the first does not exist
            patterns = ["*.json", weights, f"{RAW_FOLDER}/{weights}", f"{TRANSFORMER}/{weights}"]
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if any((folder / part / weights).is_file() for part in ("", RAW_FOLDER, TRANSFORMER)):
                break
    except Exception as error:  # no network, no such model, no access: each has its own exception
        raise UserError(
            f"{name}: no such folder, and it cannot be downloaded from the hub ({first_line(error)}); download "
            f"config.json and {WEIGHTS[0]} of https://huggingface.co/{name} into a folder {name}, here"
        ) from None
    return folder
