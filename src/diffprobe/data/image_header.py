"""What an image store says of itself, checked once when it is opened: everything behind that relies on it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from diffprobe.data.listing import CHUNK


@dataclass(frozen=True)
class LinkHeader:
    """Of a store without pixels: where its files lie, and the rule by which they are decoded."""

    archives: tuple[Path, ...]
    decoding: str  # as `links.decoding_of` writes it
    rule: int  # its version
    pillow: str
    size: int | None
    resize: str


@dataclass(frozen=True)
class ImageHeader:
    shape: tuple[int, int, int, int]  # (N, H, W, C)
    content: str  # a sha256
    classes: list[str]
    links: LinkHeader | None  # None where pixels are stored
    mask_classes: list[str]  # [] without masks


def read_header(file: h5py.File) -> ImageHeader:
    """The attributes of an open store, whose arrays have the types and shapes that `data.hdf5` describes.

    Raises ValueError for anything else, arrays that are larger than the file or lie in another one included.
    """
    linked = "shape" in file.attrs
    dims = file.attrs["shape"].tolist() if linked else list(own_array(file, "images").shape)
    if len(dims) != 4 or not all(type(size) is int and size > 0 for size in dims):
        raise ValueError(f"images of shape {dims}")
    n, height, width, channels = dims
    if not linked:
        refuse_other(file, "images", np.uint8, (n, height, width, channels))
    refuse_other(file, "labels", np.int64, (n,))
    refuse_other(file, "split", np.uint8, (n,))
    refuse_other(file, "hashes", np.uint8, (-(-n // CHUNK), 32))
    if "order" in file:
        refuse_other(file, "order", np.int64, (n,))
    if "mask_hashes" in file:
        refuse_other(file, "masks", np.uint8, (n, height, width))
        refuse_other(file, "mask_hashes", np.uint8, (-(-n // CHUNK), 32))
    parts = names(file, "mask_classes") if "mask_hashes" in file else []
    linked_files = links(file, n) if linked else None
    return ImageHeader((n, height, width, channels), content(file), names(file, "classes"), linked_files, parts)


def own_array(file: h5py.File, name: str) -> h5py.Dataset:
    """An array that the file itself holds. Raises ValueError for anything else."""
    # HDF5 would follow links and external storage into other files.
    link = file.get(name, getlink=True)
    if link is None:
        raise ValueError(f"no {name}")
    array = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external:
        raise ValueError(f"{name} is not an array of this file")
    return array


def refuse_other(file: h5py.File, name: str, dtype: type, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless the file itself holds such an array; None in `shape` stands for any length."""
    array = own_array(file, name)
    fits = len(array.shape) == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    # Nothing is compressed, so an array that was never written is one larger than its file.
    if array.nbytes > Path(file.filename).stat().st_size:
        raise ValueError(f"{name} is declared with {array.nbytes:,} bytes, more than the file has")


def content(file: h5py.File) -> str:
    stored = file.attrs.get("content")
    if not isinstance(stored, bytes) or len(stored) != 64:
        raise ValueError("no content")
    return stored.decode("ascii")


def names(file: h5py.File, key: str) -> list[str]:
    """An attribute that holds names; [] where there is none."""
    listed = json_of(file, key, list) if key in file.attrs else []
    if not all(isinstance(name, str) for name in listed):
        raise ValueError(f"{key} are not names")
    return listed


def links(file: h5py.File, n: int) -> LinkHeader:
    """The header of a store without pixels of n rows."""
    for name, dtype, shape in (
        ("names", np.uint8, (None,)), ("ends", np.int64, (n,)),
        ("archive", np.uint16, (n,)), ("stamps", np.int64, (n, 2)),
    ):  # fmt: skip
        refuse_other(file, name, dtype, shape)
    archives, rule = json_of(file, "archives", list), json_of(file, "decoding", dict)
    size = rule.get("size")
    valid = type(rule.get("rule")) is int and isinstance(rule.get("pillow"), str)
    valid &= size is None or (type(size) is int and size > 0)
    if not valid or rule.get("resize") not in ("crop", "plain") or not all(isinstance(path, str) for path in archives):
        raise ValueError("archives or decoding are of another form")
    paths = tuple(map(Path, archives))
    return LinkHeader(paths, file.attrs["decoding"], rule["rule"], rule["pillow"], size, rule["resize"])


def json_of(file: h5py.File, name: str, kind: type) -> Any:
    """The value of an attribute that holds JSON, of this type."""
    text = file.attrs.get(name)
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise ValueError(f"{name} is no JSON {kind.__name__}")
    return value
