"""Latents in .npy: an array per version (DDAE/DiT), or a file per image (fast-DiT)."""

import re
from concurrent.futures import ThreadPoolExecutor
from os import scandir
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprobe.config.latents import Peers, labels_folder
from diffprobe.interop.latents.peers import (
    FOREIGN,
    Encoded,
    PeerLatents,
    as_labels,
    existing_folder,
    latents_shape,
    read_npy,
)
from diffprobe.runtime.errors import UserError

THREADS = 8  # that open small files: a disk answers several at once
DIGITS = 18  # of a number that fits into 64 bits
BLOCK = 4096  # files requested at a time


def open_npy(peers: Peers) -> PeerLatents:
    """train_code_0.npy, train_code_1.npy, ...: floats (N, c, h, w) each, versions of the same images; test_code_0.npy;
    train_label.npy and test_label.npy. Raises UserError.
    """
    folder = existing_folder(peers.path, "train_code_0.npy, train_code_1.npy, ...")
    test = versions(folder, "test")[:1]  # test is read in one version
    train = versions(folder, "train")
    if not train:
        raise UserError(f"{folder / 'train_code_0.npy'}: no such file; check the path")
    return PeerLatents(versioned(folder, "train", train), versioned(folder, "test", test) if test else None)


def versions(folder: Path, split: str) -> list[Path]:
    """The files of a split's versions, in order. Raises UserError where one is missing between them."""
    names = [re.fullmatch(rf"{split}_code_(\d+)\.npy", path.name) for path in folder.iterdir()]
    numbers = sorted(int(name[1]) for name in names if name)
    if missing := sorted(set(range(len(numbers))) - set(numbers)):
        raise UserError(
            f"{folder / f'{split}_code_{missing[0]}.npy'}: no such file, but one of a higher number; copy it too"
        )
    return [folder / f"{split}_code_{number}.npy" for number in numbers]


def versioned(folder: Path, split: str, paths: list[Path]) -> Encoded:
    """A split's versions, floats (N, c, h, w) each, and its labels if there are any. Raises UserError where a version
    holds no latents, or differs from the first in shape.
    """
    shapes = []
    for path in paths:
        values = read_npy(path)
        shapes.append(latents_shape(path, values.dtype, values.shape))
        if shapes[-1] != shapes[0]:
            raise UserError(f"{path}: is {shapes[-1]}, but {paths[0].name} is {shapes[0]}; encode both alike")
    labels = folder / f"{split}_label.npy"
    return Encoded(
        name=str(paths[0]),
        shape=shapes[0],
        views=[FOREIGN] * len(paths),
        read=lambda view, positions: read_npy(paths[view])[positions],  # mapped anew, so that pages are given back
        labels=as_labels(labels, read_npy(labels), shapes[0][0]) if labels.exists() else None,
    )


def open_files(peers: Peers) -> PeerLatents:
    """0.npy, 1.npy, ...: floats (c, h, w) or (1, c, h, w) of an image each; labels in a folder beside. Raises
    UserError.
    """
    return PeerLatents(numbered(peers.path), numbered(peers.test) if peers.test else None)


class NumberedFiles(NamedTuple):
    """Files first.npy to before (first + total).npy; `digits` wide where they have leading zeros, else 0."""

    folder: Path
    first: int
    total: int
    digits: int

    def path(self, position: int) -> Path:
        return self.folder / f"{self.first + position:0{self.digits}}.npy"


def numbered(path: str) -> Encoded:
    """A folder with a file per image."""
    files = numbered_files(existing_folder(path, "0.npy, 1.npy, ..., one for each image"))
    one = read_npy(files.path(0), mapped=False)
    row = one.shape[1:] if one.ndim == 4 else one.shape  # (c, h, w)
    shape = latents_shape(files.path(0), one.dtype, (files.total, *row))
    beside = Path(labels_folder(path))
    labels = labels_beside(numbered_files(beside), files) if beside != files.folder and beside.is_dir() else None

    def read(view: int, positions: np.ndarray) -> np.ndarray:
        return read_all(files, positions, row, np.dtype(np.float32))  # (n, c, h, w)

    return Encoded(path, shape, [FOREIGN], read, labels)


def numbered_files(folder: Path) -> NumberedFiles:
    """The numbered files of a folder, none of which may be missing between others. Raises UserError."""
    numbers, digits = [], 0
    with scandir(folder) as entries:  # a million files: names alone, without a stat each
        for entry in entries:
            stem, dot, kind = entry.name.rpartition(".")
            if kind != "npy" or not dot or entry.name.startswith("."):
                continue
            if not (stem.isascii() and stem.isdigit() and len(stem) <= DIGITS):
                raise UserError(f"{folder / entry.name}: expected a number as name, such as 0.npy")
            numbers.append(int(stem))
            digits = len(stem) if stem.startswith("0") and len(stem) > 1 else digits
    if not numbers:
        raise UserError(f"{folder}: holds no 0.npy, 1.npy, ..., one for each image; check the path")
    ordered = np.sort(np.array(numbers, np.int64))
    files = NumberedFiles(folder, int(ordered[0]), len(ordered), digits)
    gaps = np.flatnonzero(ordered != ordered[0] + np.arange(len(ordered)))
    if len(gaps):
        raise UserError(
            f"{files.path(int(gaps[0]))}: no such file, but others of higher numbers are there; copy it too"
        )
    return files


def labels_beside(labels: NumberedFiles, files: NumberedFiles) -> np.ndarray:
    """A label for each file, int64 (N,). Raises UserError."""
    if (labels.first, labels.total) != (files.first, files.total):
        raise UserError(
            f"{labels.folder}: holds {labels.total} labels, but there are {files.total} files of latents; copy them all"
        )
    return as_labels(labels.folder, read_all(labels, np.arange(files.total), (), np.dtype(np.int64)), files.total)


def read_all(files: NumberedFiles, positions: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The arrays in some of the files, (n, *shape), of any precision. Raises UserError for one of another shape, or of
    floats for integers.
    """
    kind = np.integer if np.issubdtype(dtype, np.integer) else np.floating
    arrays = np.empty((len(positions), *shape), dtype)

    def load(index: int) -> None:
        path = files.path(int(positions[index]))
        values = read_npy(path, mapped=False)
        if not np.issubdtype(values.dtype, kind) or values.shape not in (shape, (1, *shape)):
            raise UserError(f"{path}: holds {values.dtype} {values.shape}; expected {kind.__name__} numbers {shape}")
        arrays[index] = values.reshape(shape)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(positions), BLOCK):  # a damaged file ends the job after its block, not after all
            list(pool.map(load, range(start, min(start + BLOCK, len(positions)))))
    return arrays
