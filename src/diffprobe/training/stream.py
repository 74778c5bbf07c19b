"""The endless stream of training images: position p is image p mod N of epoch p div N, in that epoch's own order."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffprobe.data import images
from diffprobe.data.batch import Batch, Feed, epoch_spans
from diffprobe.data.pixels import to_float
from diffprobe.runtime.keyed import Key, permutation
from diffprobe.training.imagestream import ImageStream


class Stream:
    """All images stay on the device, as bytes. Only the first read of an epoch waits for the device."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int, device: torch.device) -> None:
        self.images, self.labels = images.to(device), labels.to(device)  # uint8 (N, H, W, C), int64 (N,)
        self.key, self.device = Key(seed, "order"), device
        self.orders: dict[int, Tensor] = {}

    def read(self, start: int, stop: int) -> Batch:
        """The images at positions [start, stop), at least one."""
        epochs = epoch_spans(start, stop, len(self.images))
        rows = torch.cat([self.order(epoch)[begin:end] for epoch, begin, end in epochs])  # (B,)
        # index_select and not indexing, which checks its indices on the host and so would wait for the device.
        images, labels = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return Batch(to_float(images), labels, torch.arange(start, stop, device=self.device))

    def order(self, epoch: int) -> Tensor:
        """Epoch `epoch`'s permutation of the images, int64 (N,) on the device."""
        if epoch not in self.orders:
            # The one before is kept: a batch may lie on both sides of an epoch's border.
            self.orders = dict(list(self.orders.items())[-1:])
            self.orders[epoch] = permutation(self.key, len(self.images), draw=epoch).to(self.device)
        return self.orders[epoch]


def open_stream(
    path: Path,
    splits: Sequence[str],
    seed: int,
    device: torch.device,
    resident_bytes: float,
    few: images.Few | None = None,
) -> Feed:
    """The images of the named splits of a store, or few of them: on the device where they take at most
    `resident_bytes`, else windows.

    The two have different orders. Raises UserError for a store that is damaged, now or when it is read.
    """
    store = images.describe(path)
    counts = {"train": store["train"], "select": store["select"], "test": store["test"]}
    image_bytes = math.prod((store["channels"], store["size"], store["size"]))
    n = few.images if few else sum(counts[split] for split in splits)
    if n * image_bytes > resident_bytes:
        return ImageStream(path, splits, seed, device, few=few)
    pixels = images.read(path, splits, few)
    return Stream(torch.from_numpy(pixels.images), torch.from_numpy(pixels.labels), seed, device)
