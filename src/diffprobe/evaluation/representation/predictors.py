"""What fitting an evaluator gives: class probabilities for features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffprobe.evaluation.representation.table import Table

Setting = dict[str, float]  # one of the settings that are tried, by its key in the config: {"lr": 0.01}


class Predictor(Protocol):
    """Fitted in H settings, for S seeds or for one, on C cells (only `linear` and `ridge` take more than one cell)."""

    @property
    def settings(self) -> list[Setting]:
        """The H settings, in the order of the config."""

    @property
    def averages_features(self) -> bool:
        """Whether the noisy copies of an image are averaged before prediction rather than after."""

    def probabilities(self, x: Tensor) -> Tensor:
        """Features (S, n, W) to class probabilities (S, C, H, n, K)."""


@dataclass(frozen=True)
class PerSeed:
    """S predictors of one seed each, as one."""

    members: Sequence[Predictor]

    @property
    def settings(self) -> list[Setting]:
        return self.members[0].settings

    @property
    def averages_features(self) -> bool:
        return self.members[0].averages_features

    def probabilities(self, x: Tensor) -> Tensor:
        # Member i sees the features of seed i alone, (1, n, W).
        return torch.cat([member.probabilities(x[i : i + 1]) for i, member in enumerate(self.members)])


def fit_each(fit_one: Callable[[Table], Predictor], tables: Sequence[Table], memory: float) -> PerSeed:
    """For evaluators that use no seed: one predictor per table, and seeds that share a table share its predictor.

    A table is held in memory where it fits into half of `memory` (bytes); the other half is the solver's.
    """
    distinct = {table.key: table for table in tables}  # one alone, if the seeds share their copies
    fitted = {key: fit_one(table.within(memory / 2)) for key, table in distinct.items()}
    return PerSeed([fitted[table.key] for table in tables])
