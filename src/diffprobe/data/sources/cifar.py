"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32x32 in pickles, read from the tar itself."""

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprobe.config.sources.download import Download
from diffprobe.data.filenames import display
from diffprobe.data.listing import Listing
from diffprobe.data.splits import TEST
from diffprobe.runtime.errors import UserError, access_error, one_line

MOST_BYTES = 2**28  # of a member; the largest of CIFAR has 155 MB


class ArchiveLayout(NamedTuple):
    """The names of an archive's members and of the keys in their dictionaries."""

    archive: str
    train: tuple[str, ...]  # members
    test: str
    meta: str
    labels: str  # key in a batch
    classes: str  # key in meta


BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
LAYOUTS = {
    "cifar10": ArchiveLayout("cifar-10-python.tar.gz", BATCHES, "test_batch", "batches.meta", "labels", "label_names"),
    "cifar100": ArchiveLayout("cifar-100-python.tar.gz", ("train",), "test", "meta", "fine_labels", "fine_label_names"),
}

# All that a pickled numpy array refers to, under the module names of numpy 1 and 2.
RECONSTRUCT = np.empty(0).__reduce__()[0]
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Loads plain values and numpy arrays; refuses everything else, so a pickle cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}") from None


def find(source: Download, archives: Mapping[str, Path]) -> Listing:
    """The images of train in the order of their batches, then those of test; CIFAR-100 with its fine labels.

    Raises UserError where the archive is truncated, damaged, or lacks a member.
    """
    layout = LAYOUTS[source.kind]
    path = archives[layout.archive]
    try:
        members = read_members(path, {*layout.train, layout.test, layout.meta})
        batches = [parse_batch(members[name], layout.labels) for name in (*layout.train, layout.test)]
        classes = parse_classes(members[layout.meta], layout.classes)
    except Exception as error:  # damaged archives and pickles raise a dozen kinds of errors
        what = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise access_error(display(path), error) or UserError(
            f"{display(path)}: not the expected archive ({what}); delete it and download it again"
        ) from None
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    official = np.zeros(len(images), dtype=np.uint8)  # TRAIN; the last batch is test
    official[len(images) - len(batches[-1].images) :] = TEST
    return Listing(labels, classes, official, layout.archive, images)


class Batch(NamedTuple):
    images: np.ndarray  # uint8 (N, 32, 32, 3)
    labels: np.ndarray  # int64 (N,)


def parse_batch(member: Any, key: str) -> Batch:
    """The images and labels of an unpickled member. Raises KeyError or ValueError for anything else."""
    pixels, labels = fields(member, "data", key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * 32 * 32,):
        raise ValueError("data is not an array of images")
    if not isinstance(labels, list) or len(labels) != len(pixels) or not all(type(x) is int for x in labels):
        raise ValueError(f"{key} are not a label for each image")
    # A row holds 3,072 bytes, plane by plane: red, green, blue.
    return Batch(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels, np.int64))


def parse_classes(member: Any, key: str) -> tuple[str, ...]:
    (names,) = fields(member, key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} are not names")
    return tuple(names)


def fields(member: Any, *keys: str) -> list[Any]:
    if not isinstance(member, dict):
        raise ValueError(f"a member holds a {type(member).__name__}")
    return [member[key] for key in keys]


def read_members(path: Path, names: set[str]) -> dict[str, Any]:
    """The unpickled members of a tar with these names (without folders); nothing is extracted.

    Raises ValueError for members that are larger than any of the dataset, and as tarfile, gzip and pickle do.
    """
    members = {}
    with tarfile.open(path, "r:gz") as tar:  # in one pass, since seeking back in a gzip means starting over
        for member in tar:
            if member.size > MOST_BYTES:  # before it is decompressed, be it only to skip it
                raise ValueError(f"{member.name} is declared with {member.size:,} bytes")
            name, file = Path(member.name).name, tar.extractfile(member) if member.isfile() else None
            if file and name in names:
                # Python 2 wrote these pickles: its strings are bytes, which latin1 maps one to one.
                members[name] = ArrayUnpickler(io.BytesIO(file.read()), encoding="latin1").load()
    return members
