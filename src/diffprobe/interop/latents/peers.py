"""What a folder of latents from elsewhere holds, seen alike for all kinds of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprobe.data.views import StoredView
from diffprobe.runtime.errors import UserError, one_line

FOREIGN: StoredView = {"kind": "foreign"}  # of an image that was augmented in a way that the file does not tell


class Encoded(NamedTuple):
    """Latents of some images, in the order of the files that they were encoded from.

    `read` takes the number of a view and positions int64 (n,), in any order, and returns floats (n, c, h, w): no more
    of the files is in memory. Of the N rows the last `padding` may repeat the first, as a sampler pads its shares.
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


class Peer(NamedTuple):
    """Latents of train, or of all images of a set without a test of its own; and of test, where they lie apart."""

    train: Encoded
    test: Encoded | None


def array(path: Path, mapped: bool = True) -> np.ndarray:
    """An .npy, without what it holds being run or, if `mapped`, read. Raises UserError where it is damaged or none."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); make it again") from None


def folder(path: str, holds: str) -> Path:
    """A folder that is there. Raises UserError."""
    if not Path(path).is_dir():
        raise UserError(f"{path}: no such folder; expected one that holds {holds}")
    return Path(path)


def refuse_no_latents(name: object, dtype: Any, shape: tuple[int, ...]) -> None:
    """Raise UserError where an array is not one of floats (N, c, h, w) with any rows."""
    if not np.issubdtype(dtype, np.floating) or len(shape) != 4 or 0 in shape:
        raise UserError(f"{name}: holds {dtype} {tuple(shape)}; latents are floats (N, channels, height, width)")


def labels_of(path: Path, values: np.ndarray, count: int) -> np.ndarray:
    """Labels int64 (count,). Raises UserError where there are not so many, or they are no whole numbers."""
    if not np.issubdtype(values.dtype, np.integer) or values.size != count:
        raise UserError(f"{path}: holds {values.dtype} {values.shape}; labels of {count} images are whole numbers")
    return np.asarray(values, np.int64).reshape(count)
