"""What a network is told besides the image and its noise level."""

from typing import NamedTuple

from torch import Tensor


class Condition(NamedTuple):
    """Each part may be missing; a network ignores what it does not know."""

    label: Tensor | None = None  # int64 (B,), -1 where there is none
    augment: Tensor | None = None  # float (B, A): what was done to the image, zeros for one as it is


NOTHING = Condition()
