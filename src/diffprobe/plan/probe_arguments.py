"""The JSON arguments of jobs that compute features or fit something on them, as typed models (see `arguments`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue

from diffprobe.config.evaluators import Evaluator
from diffprobe.config.evaluators.dense import Dense
from diffprobe.config.monitors import Monitor
from diffprobe.config.names import Pooling, level_name
from diffprobe.config.noise import CLEAN
from diffprobe.config.views import Crop, RandomView
from diffprobe.plan.arguments import Argument, Columns, ExtractorEntry

Cell = tuple[str, str]  # of the grid: a level and a tap, by name


class Weights(Argument):
    """A set of weights of a checkpoint."""

    name: str


class FeatureSettings(Argument):
    """How features are computed."""

    weights: Weights
    pooling: Pooling
    label: int | None
    augmented: int
    crop: Crop = Crop()
    view: RandomView | None = None
    mirrored: bool = False
    latents_as: Literal["sample", "mean"]
    code: Literal["encoded", "dropped"] = "encoded"
    input: Literal["noisy", "clean"] = "noisy"
    zeroed: list[Literal["time", "label"]] = Field([])
    draws: int
    precision: Literal["auto", "fp32", "bf16"]
    noise_seed: int

    @property
    def augmentation(self) -> Crop | RandomView:
        """Of augmented copies, in pixels."""
        return self.view or self.crop


class SearchPlan(Argument):
    """A search for noise levels; `low` and `high` are sigma/alpha."""

    low: float
    high: float
    coarse: int
    rounds: int
    keep: int


class GridTaps(Argument):
    """The taps of a grid."""

    taps: list[str]  # in order of computation
    clean_taps: list[str] = Field([])  # of an encoder, computed at the level `clean` alone; the others at the others

    def taps_at(self, sigma: float) -> list[str]:
        if not self.clean_taps:
            return self.taps
        return [tap for tap in self.taps if (tap in self.clean_taps) == (sigma == CLEAN)]


class FeaturesArgument(FeatureSettings, GridTaps):
    """Features of one part of a checkpoint's grid."""

    fit: list[str]  # splits that heads are fitted on
    read: str  # the split they are scored on
    plain: bool  # whether an evaluator needs unaugmented features of `fit`
    levels: list[float] | SearchPlan
    images: int | None = None  # of a subset of the split `read`; None: all
    memory: int = 0  # bytes of features a search holds at a time


class SubsetArgument(GridTaps):
    """Rows of results about the features of a subset, and the cells that these have."""

    row: Columns
    about: Columns  # of the features


class MonitorsArgument(SubsetArgument):
    """Label-free figures of every cell of a checkpoint."""

    monitors: list[Monitor]


class ForeignArgument(Argument):
    """The features that an extractor has of a subset."""

    extractor: ExtractorEntry
    split: str
    images: int


class Checkpoints(GridTaps):
    """The cells of an experiment, and its checkpoints in the order of the inputs."""

    checkpoints: list[int]


class SimilarityArgument(SubsetArgument, Checkpoints):
    """Maps of similarity."""

    mapped: list[int]  # checkpoints whose cells are compared
    neighbours: int
    memory: int  # bytes of features held at a time
    others: dict[str, Checkpoints]


class PicturesArgument(FeatureSettings, Checkpoints):
    """Pictures of the chosen features."""

    images: int  # in maps
    points: int  # images in the plane
    perplexity: float


class JoinedCell(Argument):
    """Features joined to the chosen ones, or in their place: tap and sigma/alpha; null: the chosen one's."""

    tap: str | None
    sigma: float | None

    def cell(self, chosen: Cell) -> Cell:
        level, tap = chosen
        return level if self.sigma is None else level_name(self.sigma), tap if self.tap is None else self.tap


class CellSelection(Argument):
    """The features that an evaluator sees."""

    combine: list[JoinedCell]
    tokens: bool
    at: JoinedCell | None = None
    levels: list[float] = Field([])  # sigma/alpha, where it is scored at each of several levels

    @property
    def sigmas(self) -> list[float]:
        """sigma/alpha of the cells that it names, besides the chosen one's."""
        named = [*self.combine, *([self.at] if self.at else [])]
        return [cell.sigma for cell in named if cell.sigma is not None]

    def cells(self, chosen: Cell) -> list[Cell]:
        """The chosen cell, or that in its place, and those joined to it, without repeats; or the layer's cells at
        `levels`, each of which is scored by itself.
        """
        first = self.at.cell(chosen) if self.at else chosen
        if self.levels:
            return [(level_name(sigma), first[1]) for sigma in self.levels]
        return list(dict.fromkeys([first, *(cell.cell(chosen) for cell in self.combine)]))

    def arrays(self, chosen: Cell) -> list[Cell]:
        """The same cells by the names of their arrays, which mark features of every position."""
        return [(level, f"{tap}.tokens" if self.tokens else tap) for level, tap in self.cells(chosen)]


class ExtractedArgument(Argument):
    """Features of a dataset by an extractor."""

    name: str
    extractor: ExtractorEntry


class ChosenArgument(FeatureSettings):
    """Features of the chosen cell and of those that evaluators join to it."""

    evaluators: list[CellSelection]
    sigmas: list[float]  # joined levels
    seeds: list[int]
    checkpoints: list[int]  # in thousands of images, in the order of the inputs


@dataclass(frozen=True)
class EvaluatorArgument:
    """An evaluator whose joined noise levels are resolved to sigma/alpha."""

    name: str
    settings: Evaluator
    selection: CellSelection

    @classmethod
    def parse(cls, name: str, entry: Mapping[str, JsonValue]) -> Self:
        """Parse an entry of `job_arguments.evaluators`. Raises pydantic's ValidationError for an unknown kind."""
        settings: Evaluator = Evaluator.model_validate({**entry, "combine": [], "at": None})
        return cls(name, settings, CellSelection.model_validate(entry))


class HeadsArgument(Argument):
    """How heads are fitted and scored before the choice."""

    row: Columns
    about: Columns  # of the features
    seeds: list[int]
    memory: int  # bytes of features held at a time
    augmented: int
    fit: list[str]  # splits that heads are fitted on
    read: str  # the split they are scored on


class GridArgument(HeadsArgument, GridTaps):
    """The grid of one checkpoint."""

    evaluators: dict[str, dict[str, Any]]
    scorer: str
    selection: Literal["select", "published"]
    split: str  # as rows of results show it

    @property
    def heads(self) -> list[EvaluatorArgument]:
        return [EvaluatorArgument.parse(name, entry) for name, entry in self.evaluators.items()]


class EvaluateArgument(HeadsArgument):
    """The final score of one evaluator."""

    name: str
    evaluator: dict[str, Any]
    draws: int

    @property
    def head(self) -> EvaluatorArgument:
        return EvaluatorArgument.parse(self.name, self.evaluator)


class FinetunedArgument(Argument):
    """The scores of runs of fine-tuning: rates are compared, or seeds repeated."""

    name: str
    row: Columns
    about: Columns
    read: str  # the split they are scored on
    split: str  # as rows of results show it
    choosing: bool  # whether the runs differ in their rate, or in their seed
    rates: list[float]
    average: bool
    draws: int  # noisy copies of an image for each seed
    noise_seed: int
    latents_as: Literal["sample", "mean"]
    precision: Literal["auto", "fp32", "bf16"]
    at: JoinedCell | None = None

    @property
    def selection(self) -> CellSelection:
        return CellSelection(combine=[], tokens=False, at=self.at)


class DenseArgument(FeatureSettings):
    """Segmentation from a few labelled images."""

    name: str
    row: Columns
    about: Columns
    evaluator: dict[str, Any]
    checkpoints: list[int]  # in thousands of images, in the order of the inputs
    memory: int  # bytes of maps of labelled images

    @property
    def settings(self) -> Dense:
        return Dense.model_validate({**self.evaluator, "combine": [], "at": None})

    @property
    def selection(self) -> CellSelection:
        return CellSelection.model_validate(self.evaluator)


class Choice(Argument):
    """The chosen cell, as the grid of a checkpoint and the choice of an experiment record it."""

    kimg: int | None  # None of an extractor, which has no checkpoints
    tap: str
    level: str
    sigma: float
    scorer: str
    setting: dict[str, int | float]  # of the scorer

    def columns(self, selection: CellSelection) -> list[Columns]:
        """Of the rows of an evaluator: the tap and level of its features, without those joined to them; of an
        evaluator at several levels one entry each.
        """
        at = selection.at
        sigma = self.sigma if at is None or at.sigma is None else at.sigma
        return [{"tap": selection.cells(self.cell)[0][1], "sigma": each} for each in selection.levels or [sigma]]

    @property
    def cell(self) -> Cell:
        return self.level, self.tap

    def of(self, checkpoints: Sequence[int], files: Sequence[Path]) -> Path:
        """The file of the chosen checkpoint, of one for each."""
        return dict(zip(checkpoints, files, strict=True))[self.kimg or 0]
