"""What training reads: batches of images or latents, from an endless stream that is addressed by position."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    images: Tensor  # (B, C, H, W): images in [-1, 1], or latents in model scale
    labels: Tensor  # (B,)
    positions: Tensor  # (B,) in the stream; every random draw of training is keyed by these
    augment: Tensor | None = None  # (B, views.LABEL_DIM): what its view did to each image; None without views
    second: Tensor | None = None  # (B, C, H, W): another view of each image, for tasks that train on two


class Feed(Protocol):
    """An endless stream of images, epoch after epoch, with random access.

    It knows no batches: dividing positions among steps, processes and micro-batches never changes an image.
    """

    def read(self, start: int, stop: int) -> Batch:
        """The images at positions [start, stop), at least one, on the stream's device.

        Raises UserError where the store is damaged.
        """
        ...


def epoch_spans(start: int, stop: int, n: int) -> Iterator[tuple[int, int, int]]:
    """Positions [start, stop) cut at the borders of epochs of `n` images: (epoch, begin, end) within the epoch."""
    while start < stop:
        epoch, begin = divmod(start, n)
        end = min(n, begin + stop - start)
        yield epoch, begin, end
        start += end - begin
