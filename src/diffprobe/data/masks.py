"""The masks of an image store: a class for every pixel, made beside the images and read by rows.

masks        uint8 (N, H, W), the class of each pixel, or UNKNOWN; not compressed, like all of the store
mask_hashes  uint8 (chunks, 32), the sha256 of each chunk of 256 masks

attribute: mask_classes (JSON: names). A store without masks has none of these.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from diffprobe.data.archives import Archives, entry_name
from diffprobe.data.convert import fit_mask, upright_size
from diffprobe.data.hdf5 import ImageStore, chunk_hashes, open_store, verified_chunk
from diffprobe.data.listing import CHUNK, Files, Masks
from diffprobe.runtime.errors import UserError

UNKNOWN = 255  # of a pixel of no known class


class MaskWriter(NamedTuple):
    """The masks of a store that is being made."""

    masks: Masks
    images: np.ndarray | Files  # as the source has them
    resize: str
    threads: int

    def write(self, path: Path) -> None:
        """Fill the masks of a store that `hdf5.write_columns` has made, chunk by chunk, from those of the source.

        Raises UserError for a mask that is missing, damaged, of another shape than its image, or with a value that is
        no class.
        """
        with ExitStack() as stack:
            file = stack.enter_context(h5py.File(path, "r+", locking=False))
            pool = stack.enter_context(ThreadPoolExecutor(self.threads))  # decoders release the GIL
            about = stack.enter_context(_Images(self.images))
            n, size, _ = file["masks"].shape

            def fitted(row: int) -> np.ndarray:
                name, shape = about(row)
                mask = checked(self.masks.read(int(self.masks.rows[row])), self.masks, name, shape)
                return fit_mask(mask, shape, size, self.resize)

            for number, start in enumerate(range(0, n, CHUNK)):
                chunk = np.stack(list(pool.map(fitted, range(start, min(start + CHUNK, n)))))
                file["masks"][start : start + len(chunk)] = chunk
                file["mask_hashes"][number] = np.frombuffer(chunk_hashes(chunk)[0], np.uint8)


class _Images(ExitStack):
    """The names and shapes of images that are arrays, or files still to be decoded."""

    def __init__(self, images: np.ndarray | Files) -> None:
        super().__init__()
        self.images = images
        if isinstance(images, Files):
            self.archives = self.enter_context(Archives(images.archives))

    def __call__(self, row: int) -> tuple[str, tuple[int, int]]:
        if not isinstance(self.images, Files):
            height, width = self.images.shape[1:3]
            return f"image {row}", (height, width)
        entry = self.images.entries[row]
        name = entry_name(self.images.archives, entry)
        return name, upright_size(self.archives.read(entry), name)


def checked(mask: np.ndarray, masks: Masks, name: str, image: tuple[int, int]) -> np.ndarray:
    """A mask (h, w) with UNKNOWN in place of `masks.ignore`. Raises UserError unless it fits its image of `image`
    (H, W) pixels.
    """
    (h, w), (height, width) = mask.shape, image
    if h * width != w * height:
        raise UserError(f"the mask of {name} has {w} x {h} pixels, the image {width} x {height}; make them alike")
    known = mask if masks.ignore is None else mask[mask != masks.ignore]
    if known.size and known.max() >= len(masks.names):
        allowed = f"0 to {len(masks.names) - 1}" + ("" if masks.ignore is None else f" and {masks.ignore}")
        raise UserError(f"the mask of {name} has the value {known.max()}, not {allowed}; set the masks' `classes`")
    return mask if masks.ignore is None else np.where(mask == masks.ignore, UNKNOWN, mask).astype(np.uint8)


def names(path: Path) -> list[str]:
    """The classes of a store's masks. Raises UserError for a store without masks."""
    with open_store(path) as file:
        if not file.header.mask_classes:
            raise UserError(f"{path}: has no masks; set `datasets.NAME.masks` and run the workflow again")
        return file.header.mask_classes


def gather(file: ImageStore, rows: np.ndarray) -> np.ndarray:
    """The masks of `rows`, int64 (M,), as uint8 (M, H, W). Raises UserError where they are damaged."""
    gathered = np.empty((len(rows), *file.shape[1:3]), np.uint8)
    for chunk in np.unique(rows // CHUNK).tolist():
        here = rows // CHUNK == chunk
        gathered[here] = verified_chunk(file, "masks", "mask_hashes", chunk)[rows[here] - chunk * CHUNK]
    return gathered
