"""What a folder of another system's latents holds, in one form for all kinds."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from diffprobe.data.npy import read_array
from diffprobe.data.views import StoredView
from diffprobe.runtime.errors import UserError, unreadable

NO_LABEL, MOST_CLASSES = -1, 10_000_000
FOREIGN: StoredView = {"kind": "foreign"}  # an augmentation that the files do not record


class Encoded(NamedTuple):
    """Latents of some images, in the order of the image files that they were encoded from.

    `read` takes the number of a view and positions int64 (n,), in any order, and returns floats (n, c, h, w); nothing
    else of the files is held in memory. The last `padding` of the N rows may repeat the first, as a distributed sampler
    pads its shares.
    """

    name: str  # the file or folder, for errors
    shape: tuple[int, int, int, int]  # (N, c, h, w)
    views: list[StoredView]
    read: Callable[[int, np.ndarray], np.ndarray]
    labels: np.ndarray | None  # int64 (N,)
    padding: int = 0

    def fits(self, images: int) -> bool:
        """Whether these can be latents of so many images."""
        return images <= self.shape[0] <= images + self.padding


class PeerLatents(NamedTuple):
    """Latents of train, or of all images of a dataset without a test of its own; and of test, where they are apart."""

    train: Encoded
    test: Encoded | None


def read_npy(path: Path, mapped: bool = True) -> np.ndarray:
    """An .npy file, memory-mapped if `mapped`. Raises UserError where it is damaged or missing."""
    try:
        return read_array(path, mapped)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (ValueError, OSError, MemoryError) as error:
        raise unreadable(path, error, "make it again") from None


def existing_folder(path: str, contents: str) -> Path:
    """Raises UserError where there is no such folder."""
    if not Path(path).is_dir():
        raise UserError(f"{path}: no such folder; expected one that holds {contents}")
    return Path(path)


def latents_shape(name: object, dtype: DTypeLike, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The shape (N, c, h, w) of an array of latents. Raises UserError where it is no array of floats like that."""
    if not np.issubdtype(dtype, np.floating) or len(shape) != 4 or 0 in shape:
        raise UserError(f"{name}: holds {dtype} {tuple(shape)}; latents are floats (N, channels, height, width)")
    n, channels, height, width = shape
    return n, channels, height, width


def as_labels(path: Path, values: np.ndarray, count: int) -> np.ndarray:
    """Labels int64 (count,). Raises UserError where their number differs, or they are no whole numbers."""
    if not np.issubdtype(values.dtype, np.integer) or values.size != count:
        raise UserError(f"{path}: holds {values.dtype} {values.shape}; labels of {count} images are whole numbers")
    if count and not (values.min() >= NO_LABEL and values.max() <= MOST_CLASSES):
        raise UserError(
            f"{path}: holds labels {values.min()} to {values.max()}; labels count from 0, or are -1 for none"
        )
    return np.asarray(values, np.int64).reshape(count)
