"""What a stream of training images or latents yields, and how it is asked."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    images: Tensor  # (B, C, H, W): images in [-1, 1], or latents in model scale
    labels: Tensor  # (B,)
    positions: Tensor  # (B,) in the stream: what every draw of training is keyed by
    augment: Tensor | None = None  # (B, views.LABEL): what was done to each image, where views are


class Feed(Protocol):
    """An endless stream of images, epoch after epoch, of which any part is read directly.

    It knows of no batches: how positions are shared among steps, processes and parts of a step changes no image.
    """

    def read(self, start: int, stop: int) -> Batch:
        """What is at the positions from `start` to before `stop`, at least one; on the stream's device.

        Raises UserError where the data are not as they were written.
        """
        ...


def spans(start: int, stop: int, n: int) -> Iterator[tuple[int, int, int]]:
    """Positions `start` to before `stop`, epoch by epoch of `n` each: (epoch, begin, end), where end is excluded."""
    while start < stop:
        epoch, begin = divmod(start, n)
        end = min(n, begin + stop - start)
        yield epoch, begin, end
        start += end - begin
