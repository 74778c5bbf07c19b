"""What a model's features are asked, by evaluators: a file a kind."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from diffprobe.config.base import Strict
from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.noise import Level
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset


class Joined(Strict):
    """Features beside those of the chosen cell."""

    tap: str | None = Field(None, description="A layer; null: the chosen one.")
    level: Level | None = Field(None, description="A noise level; null: the chosen one.")


class Evaluator(Kind, family=True):
    """What all evaluators have. Where a setting is a list, the best on `select` is taken, and refitted.

    `build` names a function that fits it (see `evaluation.representation.evaluators`).
    """

    combine: list[Joined] = Field(
        [], description="Levels or taps whose features are joined to the chosen ones, in one vector."
    )
    tokens: bool = Field(
        False, description="Features of every position of the chosen tap side by side, instead of pooled (only `test`)."
    )
    average: bool = Field(
        True,
        description="Probabilities (of `knn` features) are averaged over an image's noisy copies; otherwise each copy "
        "is judged alone, as published, and the spread is over copies too.",
    )

    rule: ClassVar[str] = "evaluate"
    """The rule that runs it at the choice. One that is no head on stored features has a rule of its own."""
    setting: ClassVar[str] = ""
    """The key whose list holds the values that are tried; none where there is nothing to choose."""
    seeded: ClassVar[bool] = False
    """Whether a seed changes the fit; if not, equal features are fitted once."""
    scores_grid: ClassVar[bool] = False
    """Whether it can score the grid, all taps of a level at once."""
    plain: ClassVar[bool] = False
    """Whether it compares with un-augmented images, so that their features are stored too."""

    @property
    def scores(self) -> bool:
        """Whether it can score the grid as it is set."""
        return self.scores_grid and not self.combine and not self.tokens

    @property
    def only_setting(self) -> dict[str, Any] | None:
        """The setting that leaves nothing to choose; None where there are several."""
        if not self.setting:
            return {}
        values = getattr(self, self.setting)
        return {self.setting: values[0]} if len(values) == 1 else None

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        """What the dataset does not allow."""
        yield from ()


import_members(__name__, __path__)
