"""What a stream of training images or latents yields, and how it is asked."""

from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    images: Tensor  # (B, C, H, W): images in [-1, 1], or latents in model scale
    labels: Tensor  # (B,)
    positions: Tensor  # (B,) in the stream: what every draw of training is keyed by
    augment: Tensor | None = None  # (B, views.LABEL): what was done to each image, where views are


class Batches(Protocol):
    """An endless stream of full batches, any of which is reached directly by its step, counted from 0."""

    def __getitem__(self, step: int) -> Batch: ...
