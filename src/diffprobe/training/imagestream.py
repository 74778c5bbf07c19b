"""The endless stream of training images that are too many to stay in memory: windows of an image store."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from diffprobe.data.batch import Batch
from diffprobe.data.images import CHUNK, Few, gather, open_store, rows_of
from diffprobe.data.pixels import to_float
from diffprobe.data.rows import Rows
from diffprobe.data.window_stream import WindowStream

WINDOW = 2**31  # bytes of images in a window, two of which are in memory; it decides the order


class ImageStream:
    """Images in an order that follows from (seed, epoch); bytes until they are on the device.

    `window` counts chunks of 256 images; the default is as many as 2 GiB hold.
    """

    def __init__(
        self,
        path: Path,
        splits: Sequence[str],
        seed: int,
        device: torch.device,
        window: int | None = None,
        few: Few | None = None,
    ) -> None:
        chunks = ImageChunks(path, splits, few)
        self.windows = WindowStream(chunks, seed, window or max(1, WINDOW // chunks.bytes), device)

    def read(self, start: int, stop: int) -> Batch:
        """The images at positions [start, stop), at least one. Raises UserError where the store is damaged."""
        images, labels = self.windows.read(start, stop)
        return Batch(to_float(images), labels, torch.arange(start, stop, device=images.device))


class ImageChunks:
    """Rows of the named splits, or few of them, by the chunk of the store that holds them: images uint8 (n, H, W, C),
    labels int64 (n,).

    The store stays open as long as the stream lives, so that every window is of the same file.
    """

    def __init__(self, path: Path, splits: Sequence[str], few: Few | None = None) -> None:
        self.file = open_store(path)  # h5py serialises access to HDF5 by itself
        self.labels = torch.from_numpy(self.file["labels"][:])
        rows = rows_of(self.file, splits, few)
        # Cut where the number of the chunk changes: only rows that are asked for, never a chunk twice.
        self.rows = np.split(rows, np.flatnonzero(np.diff(rows // CHUNK)) + 1)
        self.sizes = [len(rows) for rows in self.rows]
        self.bytes = CHUNK * math.prod(self.file.shape[1:])  # of a whole chunk

    def read(self, epoch: int, numbers: Sequence[int]) -> Iterator[Rows]:
        for number in numbers:
            yield torch.from_numpy(gather(self.file, self.rows[number])), self.labels[self.rows[number]]
