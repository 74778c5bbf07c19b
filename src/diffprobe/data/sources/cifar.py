"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32x32 in pickles, read from the tar itself."""

import io
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprobe.config.sources.download import Download
from diffprobe.data.filenames import display
from diffprobe.data.listing import Listing
from diffprobe.data.splits import TEST
from diffprobe.runtime.errors import UserError


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
    members = read_members(path, {*layout.train, layout.test, layout.meta})
    try:
        batches = [members[name] for name in (*layout.train, layout.test)]
        # A row holds 3,072 bytes, plane by plane: red, green, blue.
        images = np.concatenate([batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for batch in batches])
        labels = np.concatenate([np.asarray(batch[layout.labels], dtype=np.int64) for batch in batches])
        official = np.zeros(len(images), dtype=np.uint8)  # TRAIN; the last batch is test
        official[len(images) - len(batches[-1]["data"]) :] = TEST
        return Listing(labels, tuple(members[layout.meta][layout.classes]), official, layout.archive, images)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{display(path)}: not the expected archive ({error}); delete it and download it again"
        ) from None


def read_members(path: Path, names: set[str]) -> dict[str, dict[str, Any]]:
    """The unpickled members of a tar with these names (without folders); nothing is extracted."""
    try:
        with tarfile.open(path, "r:gz") as tar:  # in one pass, since seeking back in a gzip means starting over
            files = ((Path(member.name).name, tar.extractfile(member)) for member in tar if member.isfile())
            # Python 2 wrote these pickles: its strings are bytes, which latin1 maps one to one.
            return {
                name: ArrayUnpickler(io.BytesIO(file.read()), encoding="latin1").load()
                for name, file in files
                if file and name in names
            }
    except (OSError, EOFError, tarfile.TarError, zlib.error, pickle.UnpicklingError) as error:
        raise UserError(f"{display(path)}: cannot be read ({error}); delete it and download it again") from None
