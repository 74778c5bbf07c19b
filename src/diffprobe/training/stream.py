"""The endless stream of training images: position p is image p mod N of epoch p div N, in that epoch's own order."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffprobe.data import images
from diffprobe.data.batch import Batch as Batch  # here for those who know the stream only
from diffprobe.data.batch import Feed, epoch_spans
from diffprobe.data.pixels import to_float
from diffprobe.runtime.keyed import Key, permutation
from diffprobe.training.imagestream import ImageStream


class Stream:
    """All images stay on the device, as bytes; no read waits for it, but for the first one of an epoch."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int, device: torch.device) -> None:
        self.images, self.labels = images.to(device), labels.to(device)  # uint8 (N, H, W, C), int64 (N,)
        self.key, self.device = Key(seed, "order"), device
        self.orders: dict[int, Tensor] = {}

    def read(self, start: int, stop: int) -> Batch:
        """Positions `start` to before `stop`, at least one."""
        epochs = epoch_spans(start, stop, len(self.images))
        rows = torch.cat([self.order(epoch)[begin:end] for epoch, begin, end in epochs])  # (B,)
        images, labels = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return Batch(to_float(images), labels, torch.arange(start, stop, device=self.device))

    def order(self, epoch: int) -> Tensor:
        """Epoch `epoch`'s permutation of the images, int64 (N,) on the device; the one asked before is kept too."""
        if epoch not in self.orders:
            self.orders = dict(list(self.orders.items())[-1:])
            self.orders[epoch] = permutation(self.key, len(self.images), draw=epoch).to(self.device)
        return self.orders[epoch]


def open_stream(path: Path, splits: Sequence[str], seed: int, device: torch.device, resident_bytes: float) -> Feed:
    """The images of the named splits of a store: on the device where they take `resident_bytes` or less, else windows.

    The two have orders of their own. Raises UserError for a store that is damaged, at once or when it is read.
    """
    store = images.describe(path)
    shape = (sum(store[split] for split in splits), store["channels"], store["size"], store["size"])  # N, C, H, W
    if math.prod(shape) > resident_bytes:
        return ImageStream(path, splits, seed, device)
    found = images.read(path, splits)
    return Stream(torch.from_numpy(found.images), torch.from_numpy(found.labels), seed, device)
