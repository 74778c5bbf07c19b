"""What an extractor is: images in, features out, and what a receipt must say of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor

from diffprobe.runtime.errors import UserError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images in [0, 1]: red, green, blue


class Features(NamedTuple):
    """What an extractor tells of a batch, float32."""

    pooled: Tensor  # (B, D): what distances compare
    spatial: Tensor | None = None  # (B, S): a map before pooling, for sFID
    logits: Tensor | None = None  # (B, K): for the Inception score


@dataclass(frozen=True)
class Extractor:
    """`apply`: images uint8 (B, H, W, C) on any device to Features on the extractor's."""

    name: str  # as the names of figures have it
    dim: int  # D
    weights: str  # sha256 of the weights file
    resize: str  # what happens to an image before the network sees it
    apply: Callable[[Tensor], Features]
    spatial: int = 0  # S, 0 where it has no such map
    classes: int = 0  # K, 0 where it has no logits

    @property
    def identity(self) -> dict[str, str | int]:
        """All that its features follow from."""
        return {"name": self.name, "dim": self.dim, "weights": self.weights, "resize": self.resize}


def exact(apply: Callable[[Tensor], Features]) -> Callable[[Tensor], Features]:
    """Without gradients, and on GPUs in full float32: TF32 would move a distance in its third digit."""

    @wraps(apply)
    def run(images: Tensor) -> Features:
        with torch.inference_mode(), full_float32():
            return apply(images)

    return run


@contextmanager
def full_float32() -> Iterator[None]:
    """TF32 off in convolutions and products, whatever it was before."""
    parts = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [part.allow_tf32 for part in parts]
    try:
        for part in parts:
            part.allow_tf32 = False
        yield
    finally:
        for part, allowed in zip(parts, before, strict=True):
            part.allow_tf32 = allowed


def channels_first(images: Tensor, device: torch.device | str) -> Tensor:
    """Images uint8 (B, H, W, C) as float (B, C, H, W) from 0 to 255, in the memory order of `channels_last`."""
    return images.to(device).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def coloured(x: Tensor, what: str) -> Tensor:
    """Images (B, 1 or 3, H, W) with three channels: grey is repeated. UserError for other numbers of channels."""
    if x.shape[1] not in (1, 3):
        raise UserError(f"{what} takes images of 1 or 3 channels, not {x.shape[1]}")
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def imagenet_normalised(x: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], less ImageNet's mean, over its deviation."""
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (x - mean) / deviation
