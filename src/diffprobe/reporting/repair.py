"""What `verify --repair` may remove: files of stores that prove to be ours.

Each kind of store has a typed model of its manifest. Where that does not hold nothing is removed, whatever the names of
the files are.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from diffprobe.data import hdf5
from diffprobe.evaluation.representation.chunks import MANIFEST
from diffprobe.evaluation.representation.featurestore import FOLDER
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.files import recorded
from diffprobe.runtime.manifests import ROOT
from diffprobe.runtime.receipts import entry_of
from diffprobe.runtime.removal import remove_file, remove_store

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


# Strict: "8" is no number. Keys that a later version adds are ignored.
class SamplesManifest(BaseModel, strict=True):
    """The attributes of a store of samples."""

    format: Literal["diffprobe samples 1"]  # samples.FORMAT; type checkers take no constant here
    about: dict[str, Any]
    shape: Annotated[list[PositiveInt], Field(min_length=4, max_length=4)]  # (N, H, W, C)
    content: Sha256


class LevelEntry(BaseModel, strict=True):
    sigma: float
    log_snr: float | None  # None: infinite


class FeaturesManifest(BaseModel, strict=True):
    """The features.json of a folder of features."""

    levels: Annotated[dict[str, LevelEntry], Field(min_length=1)]
    config: dict[str, Any]
    content: str


class ImagesManifest(BaseModel, strict=True):
    """The attributes of an image store."""

    classes: list[str]
    split_rule: Any
    content: Sha256


def remove_samples(store: Path) -> bool:
    """Remove the manifest alone: refilling the store keeps its whole chunks. False where it is not ours."""
    try:
        SamplesManifest.model_validate(recorded(store / ROOT, "attributes"))
    except ValidationError:
        return False
    remove_file(store, ROOT)
    return True


def remove_features(store: Path) -> bool:
    """Remove a folder of features; False where it is not ours. Raises UserError where it holds anything else."""
    try:
        FeaturesManifest.model_validate(recorded(store / MANIFEST))
    except ValidationError:
        return False
    remove_store(store, FOLDER)
    return True


def remove_output(path: Path) -> bool:
    """Remove a file that an intact receipt names, at this very path, as its job's output; False where none does."""
    _, entry = entry_of(path) or (None, {})
    if "path" not in entry or Path(entry["path"]).absolute() != path.absolute():
        return False
    remove_file(path.parent, path.name)
    return True


def remove_images(store: Path) -> bool:
    """Remove an image store; False where the file is not ours.

    Raises UserError for a store without pixels: its own image files may be damaged, which a new store would not mend.
    """
    try:
        with h5py.File(store, "r", locking=False) as file:
            attributes = {name: file.attrs[name] for name in ImagesManifest.model_fields}
            if not all(name in file for name in hdf5.ARRAYS):
                return False
            pixels = "images" in file
        attributes["classes"] = json.loads(attributes["classes"])
        attributes["content"] = attributes["content"].decode()
        ImagesManifest.model_validate(attributes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever an HDF5 file of others may hold
        return False
    if not pixels:
        raise UserError(f"{store}: is left as it is: it reads images from their own files; check those")
    remove_file(store.parent, store.name)
    return True
