"""The interface of an extractor: images in, features out, and its identity for receipts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError


class Features(NamedTuple):
    """The features of a batch, float32."""

    pooled: Tensor  # (B, D): what distances compare
    spatial: Tensor | None = None  # (B, S): a map before pooling, for sFID
    logits: Tensor | None = None  # (B, K): for the Inception score


@dataclass(frozen=True)
class FeatureExtractor:
    """A loaded network. `apply` takes images uint8 (B, H, W, C) on any device to Features on its own."""

    name: str  # what the names of figures end with
    dim: int  # D
    weights: str  # sha256 of the weights file
    resize: str  # how images are prepared for the network
    apply: Callable[[Tensor], Features]
    spatial: int = 0  # S, 0 where it has no such map
    classes: int = 0  # K, 0 where it has no logits

    @property
    def identity(self) -> dict[str, str | int]:
        """All that its features depend on."""
        return {"name": self.name, "dim": self.dim, "weights": self.weights, "resize": self.resize}


def exact(apply: Callable[[Tensor], Features]) -> Callable[[Tensor], Features]:
    """Run without gradients, and on GPUs in full float32: TF32 would change a distance in its third digit."""

    @wraps(apply)
    def run(images: Tensor) -> Features:
        with torch.inference_mode(), full_float32():
            return apply(images)

    return run


@contextmanager
def full_float32() -> Iterator[None]:
    """TF32 off in convolutions and products, whatever it was before."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = False
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def channels_first(images: Tensor, device: torch.device) -> Tensor:
    """Images uint8 (B, H, W, C) as floats (B, C, H, W) from 0 to 255, in `channels_last` memory order."""
    return images.to(device).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def to_rgb(x: Tensor, what: str) -> Tensor:
    """Images (B, 1 or 3, H, W) with three channels: grey is repeated. UserError for other numbers of channels."""
    if x.shape[1] not in (1, 3):
        raise UserError(f"{what} takes images of 1 or 3 channels, not {x.shape[1]}")
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
