"""A training step as the peers write it: unfused Adam, one average per parameter, the loss read in every step."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    """Images as bytes (H, W, C), each turned into floats in [-1, 1], and flipped at random, when it is asked for."""

    def __init__(self, pixels: Tensor, flip: bool) -> None:
        self.pixels, self.flip = pixels, flip

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Tensor:
        x = self.pixels[i].permute(2, 0, 1).float() / 255
        if self.flip and torch.rand(1) < 0.5:
            x = x.flip(2)
        return 2 * x - 1


def endless(dataset: Dataset, batch: int) -> Iterator[Tensor]:
    """Shuffled batches, epoch after epoch. Loaded in this process: a core of its own would be one of two."""
    loader = DataLoader(dataset, batch, shuffle=True, drop_last=True)
    while True:
        yield from loader


class PlainTraining:
    """A network with its optimiser and its average."""

    def __init__(
        self, network: nn.Module, decay: float, clip: float | None, adamw: bool = False, **adam: float
    ) -> None:
        self.network, self.decay, self.clip = network.train(), decay, clip
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        kind = torch.optim.AdamW if adamw else torch.optim.Adam
        self.optimizer = kind(network.parameters(), **adam)

    def step(self, loss: Callable[[], Tensor]) -> float:
        self.optimizer.zero_grad()
        value = loss()
        value.backward()
        self.apply()
        return value.item()

    def apply(self) -> None:
        """Clip the gradients, step, average."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(self.average.parameters(), self.network.parameters(), strict=True):
                average.mul_(self.decay).add_(parameter.data, alpha=1 - self.decay)
