"""The classes that a classifier itself names: its stored logits, to which nothing is fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffprobe.evaluation.representation.predictors import Setting
from diffprobe.evaluation.representation.table import Table

if TYPE_CHECKING:
    from diffprobe.config.evaluators.logits import Logits


@dataclass(frozen=True)
class OwnClasses:
    """The softmax of logits, C cells of them side by side."""

    classes: int
    averages_features = False

    @property
    def settings(self) -> list[Setting]:
        return [{}]

    def probabilities(self, x: Tensor) -> Tensor:
        """Logits (S, n, C K) to probabilities (S, C, 1, n, K)."""
        return x.float().unflatten(2, (-1, self.classes)).movedim(2, 1).softmax(-1)[:, :, None]


def fit(
    settings: "Logits",
    tables: Sequence[Table],
    seeds: Sequence[int],
    classes: int,
    memory: float,
    device: torch.device,
) -> OwnClasses:
    """See the module."""
    return OwnClasses(classes)
