"""Latents in .npy: an array per version (DDAE/DiT), or a file per image (fast-DiT)."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import scandir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprobe.config.latents import labels_folder
from diffprobe.interop.latents.peers import FOREIGN, Encoded, Peer, array, folder, labels_of, refuse_no_latents
from diffprobe.runtime.errors import UserError

THREADS = 8  # that open small files: a disk answers several at once
BLOCK = 4096  # of them that are asked for at a time


def open_npy(imported: dict[str, Any]) -> Peer:
    """train_code_0.npy, train_code_1.npy, ...: floats (N, c, h, w) each, versions of the same images; test_code_0.npy;
    train_label.npy and test_label.npy. Raises UserError.
    """
    place = folder(imported["path"], "train_code_0.npy, train_code_1.npy, ...")
    test = versions(place, "test")[:1]  # test is read as it is, in one version
    train = versions(place, "train")
    if not train:
        raise UserError(f"{place / 'train_code_0.npy'}: no such file")
    return Peer(versioned(place, "train", train), versioned(place, "test", test) if test else None)


def versions(place: Path, split: str) -> list[Path]:
    """The files of a split's versions, in order. Raises UserError where one is missing between them."""
    names = [re.fullmatch(rf"{split}_code_(\d+)\.npy", path.name) for path in place.iterdir()]
    numbers = sorted(int(found[1]) for found in names if found)
    if missing := sorted(set(range(len(numbers))) - set(numbers)):
        raise UserError(f"{place / f'{split}_code_{missing[0]}.npy'}: no such file, but one of a higher number")
    return [place / f"{split}_code_{number}.npy" for number in numbers]


def versioned(place: Path, split: str, paths: list[Path]) -> Encoded:
    """A split's versions, floats (N, c, h, w) each, and its labels if there are any. Raises UserError where a version
    holds no latents, or another number of them than the first.
    """
    shape = array(paths[0]).shape
    for path in paths:
        values = array(path)
        refuse_no_latents(path, values.dtype, values.shape)
        if values.shape != shape:
            raise UserError(f"{path}: is {values.shape}, but {paths[0].name} is {shape}")
    named = place / f"{split}_label.npy"
    labels = labels_of(named, array(named), shape[0]) if named.exists() else None
    return Encoded(
        name=str(paths[0]),
        shape=shape,
        views=[FOREIGN] * len(paths),
        read=lambda view, positions: array(paths[view])[positions],  # mapped anew, so that what was read is let go
        labels=labels,
    )


def open_files(imported: dict[str, Any]) -> Peer:
    """0.npy, 1.npy, ...: floats (c, h, w) or (1, c, h, w) of an image each; labels in a folder beside. Raises
    UserError.
    """
    train, test = imported["path"], imported["test"]
    return Peer(numbered(train), numbered(test) if test else None)


class Numbers(NamedTuple):
    """Files first.npy to before (first + count).npy; `digits` wide where they have leading zeros, else 0."""

    folder: Path
    first: int
    count: int
    digits: int

    def path(self, position: int) -> Path:
        return self.folder / f"{self.first + position:0{self.digits}}.npy"


def numbered(path: str) -> Encoded:
    """A folder with a file per image."""
    files = numbers(folder(path, "0.npy, 1.npy, ..., one for each image"))
    one = array(files.path(0), mapped=False)
    shape = one.shape[1:] if one.ndim == 4 else one.shape
    refuse_no_latents(files.path(0), one.dtype, (files.count, *shape))
    beside = Path(labels_folder(path))
    labels = labels_beside(numbers(beside), files) if beside != files.folder and beside.is_dir() else None
    read = partial(read_files, files, shape)
    return Encoded(path, (files.count, *shape), [FOREIGN], lambda _, positions: read(positions), labels)


def numbers(place: Path) -> Numbers:
    """The numbered files of a folder, of which none between may be missing. Raises UserError."""
    found, digits = [], 0
    with scandir(place) as entries:
        for entry in entries:
            stem, dot, kind = entry.name.rpartition(".")
            if kind != "npy" or not dot or entry.name.startswith("."):
                continue
            if not (stem.isascii() and stem.isdigit()):
                raise UserError(f"{place / entry.name}: expected a number as name, such as 0.npy")
            found.append(int(stem))
            digits = len(stem) if stem.startswith("0") and len(stem) > 1 else digits
    if not found:
        raise UserError(f"{place}: holds no 0.npy, 1.npy, ..., one for each image")
    known = np.sort(np.array(found, np.int64))
    files = Numbers(place, int(known[0]), len(known), digits)
    gaps = np.flatnonzero(known != known[0] + np.arange(len(known)))
    if len(gaps):
        raise UserError(f"{files.path(int(gaps[0]))}: no such file, but others of higher numbers are there")
    return files


def labels_beside(labels: Numbers, files: Numbers) -> np.ndarray:
    """A label for each file, int64 (N,). Raises UserError."""
    if (labels.first, labels.count) != (files.first, files.count):
        raise UserError(f"{labels.folder}: holds {labels.count} labels, but there are {files.count} files of latents")
    return loaded(labels, np.arange(files.count), (), np.int64, np.integer)


def read_files(files: Numbers, shape: tuple[int, ...], positions: np.ndarray) -> np.ndarray:
    """float32 (n, c, h, w)"""
    return loaded(files, positions, shape, np.float32, np.floating)


def loaded(files: Numbers, positions: np.ndarray, shape: tuple[int, ...], dtype: Any, kind: Any) -> np.ndarray:
    """The values in some of the files, (n, *shape). Raises UserError for one of another shape or kind of numbers."""
    found = np.empty((len(positions), *shape), dtype)

    def load(index: int) -> None:
        path = files.path(int(positions[index]))
        values = array(path, mapped=False)
        if not np.issubdtype(values.dtype, kind) or values.shape not in (shape, (1, *shape)):
            raise UserError(f"{path}: holds {values.dtype} {values.shape}; expected {kind.__name__} numbers {shape}")
        found[index] = values.reshape(shape)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(positions), BLOCK):
            list(pool.map(load, range(start, min(start + BLOCK, len(positions)))))
    return found
