"""Images per second from files to an HDF5 store, for common formats, with one process and with several.

    python -m benchmarks.decode cifar10.zip --workers 2

The zip is read as it is, again as PNG, and as a folder of JPEGs: mosaics of its images, as large as ImageNet's
photographs, cropped to 256 pixels. Seconds include starting the processes. The last column is per second of CPU time,
which other programs on the machine do not affect.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from zipfile import ZipFile

import numpy as np
from PIL import Image

from diffprobe.data import images
from diffprobe.data.convert import pixels
from diffprobe.data.listing import Files

PHOTO = (500, 375)  # width and height of most of ImageNet


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second from files to an image store.")
    parser.add_argument("zip", type=Path, help="a zip of small square images")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=25_000, help="at most so many of the zip's images")
    parser.add_argument("--photos", type=int, default=1_000)
    arguments = parser.parse_args()
    print(f"{'source':<24}{'workers':>8}{'images':>8}{'seconds':>9}{'images/s':>10}{'per core second':>17}")
    with tempfile.TemporaryDirectory() as folder:
        for name, files, size in sources(arguments, Path(folder)):
            for workers in sorted({1, arguments.workers}):
                print(f"{name:<24}{row(files, size, workers, Path(folder))}", flush=True)


def sources(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Files, int]]:
    """The name, the files and the size of the stored images of each source."""
    with ZipFile(arguments.zip) as archive:
        names = [name for name in archive.namelist() if not name.endswith((".json", "/"))][: arguments.images]
        small = [pixels(archive.read(name), name, None, 3, "crop") for name in names]  # N of (H, W, C)
    size = small[0].shape[0]
    yield f"zip as given, {size} px", Files((arguments.zip,), [(0, name) for name in names]), size
    with ZipFile(folder / "png.zip", "w") as archive:
        for i, image in enumerate(small):
            archive.writestr(f"{i}.png", encoded(Image.fromarray(image), "png"))
    yield f"PNG zip, {size} px", Files((folder / "png.zip",), [(0, f"{i}.png") for i in range(len(small))]), size
    (folder / "photos").mkdir()
    for i in range(arguments.photos):
        (folder / "photos" / f"{i}.jpg").write_bytes(encoded(mosaic(small, i), "jpeg"))
    yield "JPEG folder, 500x375", Files((folder / "photos",), [(0, f"{i}.jpg") for i in range(arguments.photos)]), 256


def mosaic(small: list[np.ndarray], seed: int) -> Image.Image:
    """A picture as large as a photograph, a mosaic of images chosen at random."""
    size = small[0].shape[0]
    down, across = -(-PHOTO[1] // size), -(-PHOTO[0] // size)
    chosen = np.random.default_rng(seed).integers(len(small), size=(down, across))
    tiles = np.block([[[small[i]] for i in line] for line in chosen])  # (down * H, across * W, C)
    return Image.fromarray(tiles[: PHOTO[1], : PHOTO[0]])


def encoded(image: Image.Image, form: str) -> bytes:
    data = BytesIO()
    image.save(data, form)
    return data.getvalue()


def row(files: Files, size: int, workers: int, folder: Path) -> str:
    n = len(files.entries)
    none = np.zeros(n, np.int64)
    settings = {"size": size, "channels": 3, "resize": "crop", "scratch": folder / "scratch", "workers": workers}
    started, busy = time.perf_counter(), processor_seconds()
    images.fill(folder / "store" / "images.h5", files, none, none, **settings)
    seconds, busy = time.perf_counter() - started, processor_seconds() - busy
    shutil.rmtree(folder / "store")
    return f"{workers:>8}{n:>8}{seconds:>9.1f}{n / seconds:>10.0f}{n / busy:>17.0f}"


def processor_seconds() -> float:
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
