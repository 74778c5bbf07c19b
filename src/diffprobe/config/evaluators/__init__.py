"""Evaluators of a model's features, one file per kind."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from diffprobe.config.base import LATER, Strict
from diffprobe.config.kinds import Kind, import_members
from diffprobe.config.noise import GridLevel, Level
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset
    from diffprobe.config.models import Experiment
    from diffprobe.config.processes import Process


class Joined(Strict):
    """Features joined to those of the chosen cell, or in their place."""

    tap: str | None = Field(None, description="Layer; null: the chosen layer.")
    level: GridLevel | None = Field(None, description="Noise level, or `clean`; null: the chosen level.")


class FewLabels(NamedTuple):
    """A few labelled images of each class, drawn several times."""

    per_class: int
    repeats: int


class Evaluator(Kind, family=True):
    """An evaluator. If a setting is a list, the value that scores best on `select` is chosen and the evaluator
    refitted.

    `build` names a function that fits it (see `evaluation.representation.evaluators`).
    """

    combine: list[Joined] = Field(
        [], description="Further levels or taps whose features are concatenated to the chosen ones."
    )
    at: Annotated[Joined | None, LATER] = Field(
        None, description="Layer and level whose features it sees in place of the chosen ones; null: those chosen."
    )
    levels: Annotated[list[Level] | Literal["all"] | None, LATER] = Field(
        None,
        description="Noise levels at which it is scored one by one, at the chosen layer or that of `at`; `all`: those "
        "of the grid; null: at the chosen level alone.",
    )
    tokens: bool = Field(
        False,
        description="Concatenate the features of all positions of the chosen tap instead of pooling (`test` only).",
    )
    average: bool = Field(
        True,
        description="Average probabilities (for `knn`: features) over an image's noisy copies. `false`: score each "
        "copy separately, as published; the spread then includes copies.",
    )

    normalise: Annotated[Literal["l2"] | None, LATER] = Field(
        None, description="`l2`: divide each feature vector by its Euclidean norm before anything else."
    )

    rule: ClassVar[str] = "evaluate"
    """The rule that evaluates it at the chosen cell. An evaluator that does not use stored features needs its own rule.
    """
    setting: ClassVar[str] = ""
    """The key whose list holds the values to choose from; "" if there is nothing to choose."""
    seeded: ClassVar[bool] = False
    """Whether the fit depends on the seed. If not, equal features are fitted once."""
    scores_grid: ClassVar[bool] = False
    """Whether this kind can score the grid, all taps of a level at once."""
    only_tap: ClassVar[str] = ""
    """The only tap that it can read; "": any."""
    joint: ClassVar[bool] = False
    """Whether one fit serves all `levels`; otherwise there is one for each."""
    fit_splits: ClassVar[tuple[str, ...]] = ()
    """The splits that it is fitted on, whatever is chosen on what; empty: `train`, and before `test` train + select."""
    pictures: ClassVar[bool] = False
    """Whether its rule writes pictures beside the rows, which the report shows."""
    plain: ClassVar[bool] = False
    """Whether this kind is fitted on unaugmented training images, so that their features are stored too."""

    @property
    def sees_stored_features(self) -> bool:
        """Whether it is fitted on stored features, and so evaluated at every checkpoint beside the grid too."""
        return self.rule == "evaluate"

    @property
    def head(self) -> "Evaluator":
        """What is fitted: itself, or the evaluator that it fits in its own way."""
        return self

    @property
    def few_labels(self) -> Sequence["FewLabels | None"]:
        """The few labels that it is fitted with, each for a row of its own; None: all that there are."""
        return [None]

    def row_names(self, name: str) -> list[str]:
        """The names of its rows of results, if it is called `name`."""
        return [f"{name}_{few.per_class}" if few else name for few in self.few_labels]

    @property
    def least_images(self) -> int:
        """The fewest images that it can be fitted on."""
        return 1

    @property
    def scores(self) -> bool:
        """Whether it can score the grid with these settings."""
        return self.scores_grid and not (self.combine or self.tokens or self.at or self.levels)

    @property
    def named_cells(self) -> list[Joined]:
        """The cells that it names besides the chosen one."""
        return [*self.combine, *([self.at] if self.at else [])]

    @property
    def fitted_on(self) -> Literal["plain", "augmented", "any"]:
        """The copies of training images that it needs with these settings; any: the augmented ones, if there are."""
        return "plain" if self.plain else "any"

    @property
    def only_setting(self) -> dict[str, Any] | None:
        """The setting if there is nothing to choose; None if there are several values."""
        if not self.setting:
            return {}
        values = getattr(self, self.setting)
        return {self.setting: values[0]} if len(values) == 1 else None

    def at_levels(self, levels: list[float], process: "Process") -> dict[str, Any]:
        """Settings that follow from the process and sigma/alpha of `levels`, by increasing noise, where it has no
        `level_problems` with them.
        """
        return {}

    def level_problems(self, key: str, levels: list[float]) -> Iterator[Problem]:
        """Settings that do not go with so many levels."""
        yield from ()

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        """Settings that the dataset does not allow."""
        yield from ()

    def tap_problems(self, key: str, channels: int) -> Iterator[Problem]:
        """Settings that do not go with taps of so many channels."""
        yield from ()

    def model_problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        """Settings that the model or its training does not allow."""
        yield from ()

    def trials(self, seeds: list[int]) -> dict[str, int]:
        """The training runs that it needs, each a job (rules/finetuning.smk): thousands of images by name."""
        return {}


import_members(__name__, __path__)
