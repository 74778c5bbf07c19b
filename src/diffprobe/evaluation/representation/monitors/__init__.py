"""Label-free figures of the features of a cell; each kind is measured by the function that its config names."""

from typing import NamedTuple

from torch import Tensor

from diffprobe.config.monitors import Monitor
from diffprobe.runtime.located import located


class CellFeatures(NamedTuple):
    """The features of the same n images in one cell of the grid, float32."""

    copies: Tensor  # (P, n, D): noisy copies; one where copies would be equal
    foreign: Tensor | None = None  # (n, F): of another encoder, where a monitor names one

    @property
    def first(self) -> Tensor:
        """The first copy (n, D)."""
        return self.copies[0]


def measure(settings: Monitor, features: CellFeatures) -> dict[str, float]:
    """The figures of a monitor by name, by the function that `settings.build` names, which takes the same arguments.

    A figure that the features do not have, such as the alignment of single copies, is left out.
    """
    return located(settings.build)(settings, features)
