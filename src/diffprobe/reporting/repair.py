"""What `verify --repair` may remove: files of stores that prove to be ours.

Each kind of store has a typed model of its mark. Where that does not hold nothing is removed, whatever the names say.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from diffprobe.data import hdf5
from diffprobe.evaluation.representation.chunks import MARK
from diffprobe.evaluation.representation.featurestore import FOLDER
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import recorded
from diffprobe.runtime.manifests import ROOT
from diffprobe.runtime.removal import remove_file, remove_store

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Mark(BaseModel):
    model_config = ConfigDict(strict=True)


class SamplesMark(Mark):
    """The attributes of a store of samples."""

    format: Literal["diffprobe samples 1"]  # samples.FORMAT
    about: dict[str, Any]
    shape: Annotated[list[PositiveInt], Field(min_length=4, max_length=4)]
    content: Sha256


class LevelMark(Mark):
    sigma: float | None
    log_snr: float | None


class FeaturesMark(Mark):
    """The features.json of a folder of features."""

    levels: Annotated[dict[str, LevelMark], Field(min_length=1)]
    config: dict[str, Any]
    content: str


class ImagesMark(Mark):
    """The attributes of an image store."""

    classes: list[str]
    split_rule: Any
    content: Sha256


def remove_samples(store: Path) -> bool:
    """Remove the mark alone: whole chunks are kept when the store is filled again. False where it is not ours."""
    try:
        SamplesMark.model_validate(recorded(store / ROOT, "attributes"))
    except ValidationError:
        return False
    remove_file(store, ROOT)
    return True


def remove_features(store: Path) -> bool:
    """Remove a folder of features; False where its mark is not ours. UserError where it holds anything else."""
    try:
        FeaturesMark.model_validate(recorded(store / MARK))
    except ValidationError:
        return False
    remove_store(store, FOLDER)
    return True


def remove_images(store: Path) -> bool:
    """Remove an image store; False where the file is not ours.

    UserError for a store without pixels: it may have lost the files themselves, which a new one would not bring back.
    """
    try:
        with h5py.File(store, "r") as file:
            attributes = {name: file.attrs[name] for name in ImagesMark.model_fields}
            ours = all(name in file for name in hdf5.ARRAYS)
            pixels = "images" in file
        attributes["classes"] = json.loads(attributes["classes"])
        attributes["content"] = attributes["content"].decode()
        ImagesMark.model_validate(attributes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if ours and not pixels:
        raise UserError(f"{store}: is left as it is: its images lie in files of their own, put those right")
    if ours:
        remove_file(store.parent, store.name)
    return ours
