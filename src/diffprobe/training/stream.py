"""The endless stream of training images: position p is image p mod N of epoch p div N, in that epoch's own order."""

import torch
from torch import Tensor

from diffprobe.data.batch import Batch as Batch  # here for those who know the stream only
from diffprobe.diffusion.samplers import to_float
from diffprobe.runtime.keyed import Key, permutation


class Stream:
    """Batches that are always full and run across the borders of epochs, so that slicing never changes a weight."""

    def __init__(self, images: Tensor, labels: Tensor, batch: int, seed: int, device: torch.device) -> None:
        self.images, self.labels = images.to(device), labels.to(device)  # uint8 (N, H, W, C), int64 (N,)
        self.batch, self.key, self.device = batch, Key(seed, "order"), device
        self.orders: dict[int, Tensor] = {}

    def __getitem__(self, step: int) -> Batch:
        """The batch of step `step`, counted from 0."""
        positions = torch.arange(step * self.batch, (step + 1) * self.batch)
        n = len(self.images)
        epochs = range(int(positions[0]) // n, int(positions[-1]) // n + 1)
        rows = torch.cat([self.order(epoch)[positions[positions // n == epoch] % n] for epoch in epochs])
        rows = rows.to(self.device)
        return Batch(to_float(self.images[rows]), self.labels[rows], positions.to(self.device))

    def order(self, epoch: int) -> Tensor:
        """Epoch `epoch`'s permutation of the images; those of past epochs are dropped."""
        if epoch not in self.orders:
            self.orders = {e: order for e, order in self.orders.items() if e == epoch - 1}
            self.orders[epoch] = permutation(self.key, len(self.images), draw=epoch)
        return self.orders[epoch]
