"""The codes that the samples of a model with an encoder are decoded from (`config.tasks.Task.samples_from_images`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffprobe.data.images import describe, gather, open_store
from diffprobe.data.pixels import to_float
from diffprobe.data.splits import SPLITS
from diffprobe.networks.condition import Condition

Codes = Callable[[Tensor], Tensor]  # of the numbers of samples, int64 (B,), to the codes (B, z) that they have
SPLIT = "train"


@dataclass(frozen=True)
class CodesOfImages:
    """Sample i has the code of image i of `train`, as it is, in the store's order; after the last one the first again.

    `encode` makes codes (B, z) of images (B, C, H, W) in [-1, 1].
    """

    encode: Codes
    store: Path
    rows: np.ndarray  # int64 (N,): of `train`

    @classmethod
    def of(cls, encode: Codes, store: Path) -> "CodesOfImages":
        with open_store(store) as file:
            return cls(encode, store, np.flatnonzero(file["split"][:] == SPLITS.index(SPLIT)))

    @property
    def about(self) -> dict[str, str]:
        """What the codes depend on besides the model, for stores and receipts."""
        return {"images": describe(self.store)["content"], "split": SPLIT}

    def __call__(self, numbers: Tensor) -> Tensor:
        with open_store(self.store) as file:
            pixels = gather(file, self.rows[numbers.cpu().numpy() % len(self.rows)])
        return self.encode(to_float(torch.from_numpy(pixels).to(numbers.device)))


def coded(codes: Tensor, places: Tensor) -> Condition:
    """The codes (B, z) at places (M,) of a batch; at -1 zeros, which is a code that is hidden."""
    return Condition(z=codes[places.clamp(min=0)].masked_fill((places < 0)[:, None], 0))
