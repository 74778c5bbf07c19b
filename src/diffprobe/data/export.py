"""Images in forms that other tools read: ADM's .npz, a folder of PNGs. Streamed, and written whole or not at all."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
from imagecodecs import png_encode
from numpy.lib import format as npy

from diffprobe.data.decode import THREADS
from diffprobe.data.imagesets import BLOCK, ImageSet, batches
from diffprobe.data.npy import KEY
from diffprobe.runtime.files import atomic, disk_errors, refuse_existing

DIGITS = 6  # in a PNG's name, at least


def to_npz(images: ImageSet, path: Path, colour: bool = True) -> None:
    """Write images for the evaluation suite of ADM (Dhariwal & Nichol 2021).

    That is an uncompressed zip with one member, arr_0.npy, uint8 (N, H, W, 3). The suite's Inception graph takes RGB,
    so grey images are repeated to three channels; without `colour` they stay (N, H, W, 1). Equal images make equal
    bytes. Raises UserError for a full disk and for unreadable images.
    """
    shape = (images.n, *images.shape[:2], 3 if colour else images.shape[2])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # A fixed date and system, which would otherwise make the bytes depend on when and where they are written.
    member = ZipInfo(KEY, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system = 3  # Unix
    with (
        disk_errors(path, math.prod(shape)),
        atomic(path) as partial,
        ZipFile(partial, "w") as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        npy.write_array_header_1_0(file, header)
        for block in batches(images, BLOCK):
            # Grey to RGB by repetition; images with the right channels pass unchanged.
            file.write(np.broadcast_to(block, (len(block), *shape[1:])).tobytes())  # (B, H, W, C)


def to_png(images: ImageSet, folder: Path) -> None:
    """Write images as 000000.png and so on, with as many digits as their number needs.

    Raises UserError for a folder that is not empty, for a full disk and for unreadable images.
    """
    refuse_existing(folder)
    digits = max(DIGITS, len(str(images.n - 1)))
    with disk_errors(folder, images.n * math.prod(images.shape)), atomic(folder) as partial:
        partial.mkdir()
        with ThreadPoolExecutor(THREADS) as pool:
            for number, block in enumerate(batches(images, BLOCK)):
                names = (partial / f"{number * BLOCK + row:0{digits}}.png" for row in range(len(block)))
                list(pool.map(write_png, names, block))


def write_png(path: Path, image: np.ndarray) -> None:
    """One image uint8 (H, W, C); compressed for speed rather than size."""
    path.write_bytes(png_encode(image[..., 0].copy() if image.shape[2] == 1 else image, level=1))
