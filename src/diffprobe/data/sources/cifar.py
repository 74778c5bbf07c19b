"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32x32 in pickles, read from the tar itself."""

import io
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprobe.data.listing import Listing
from diffprobe.data.sources.names import shown
from diffprobe.data.splits import SPLITS
from diffprobe.runtime.errors import UserError


class Form(NamedTuple):
    """Where an archive keeps what."""

    archive: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    classes: str


FORMS = {
    "cifar10": Form(
        "cifar-10-python.tar.gz",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": Form("cifar-100-python.tar.gz", ("train",), "test", "meta", "fine_labels", "fine_label_names"),
}

# All that a pickled numpy array refers to, by the names of numpy 1 and 2.
RECONSTRUCT = np.empty(0).__reduce__()[0]
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArraysOnly(pickle.Unpickler):
    """Reads plain values and numpy arrays, runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}") from None


def find(source: dict, archives: Mapping[str, Path]) -> Listing:
    """The images of train in the order of their batches, then those of test; CIFAR-100 with its fine labels.

    Raises:
        UserError: the archive is cut, damaged, or lacks a member.
    """
    form = FORMS[source["kind"]]
    path = archives[form.archive]
    content = members(path, {*form.train, form.test, form.meta})
    try:
        batches = [content[name] for name in (*form.train, form.test)]
        images = np.concatenate([pixels(batch["data"]) for batch in batches])
        labels = np.concatenate([np.asarray(batch[form.labels], dtype=np.int64) for batch in batches])
        official = np.zeros(len(images), dtype=np.uint8)
        official[len(images) - len(batches[-1]["data"]) :] = SPLITS.index("test")
        return Listing(labels, tuple(content[form.meta][form.classes]), official, form.archive, images)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{shown(path)}: not the archive it should be ({error}); delete it and fetch it again"
        ) from None


def pixels(rows: np.ndarray) -> np.ndarray:
    """Rows of 3,072 bytes, the red plane first, as (N, 32, 32, 3)."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def members(path: Path, wanted: set[str]) -> dict[str, dict]:
    """The unpickled files of a tar, by their names without folders; nothing is extracted."""
    try:
        with tarfile.open(path, "r:gz") as tar:  # in one pass, since a gzip cannot be read backwards
            found = ((Path(member.name).name, member) for member in tar if member.isfile())
            return {name: load(tar, member) for name, member in found if name in wanted}
    except (OSError, EOFError, tarfile.TarError, zlib.error, pickle.UnpicklingError) as error:
        raise UserError(f"{shown(path)}: cannot be read ({error}); delete it and fetch it again") from None


def load(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict:
    file = tar.extractfile(member)
    assert file is not None
    return ArraysOnly(io.BytesIO(file.read()), encoding="latin1").load()  # they were written by Python 2
