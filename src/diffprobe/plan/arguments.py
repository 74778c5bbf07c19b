"""The JSON arguments of jobs, read back into typed models: what `job_arguments` writes, by the code that uses it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from diffprobe.config.evaluators import Evaluator
from diffprobe.config.extractors import Extractor
from diffprobe.config.extractors.classifier import ClassifierExtractor
from diffprobe.config.models import Metrics
from diffprobe.config.names import level_name
from diffprobe.config.probing import Crop

Cell = tuple[str, str]  # of the grid: a level and a tap, by name


class Argument(BaseModel):
    """A part of a job's argument. Keys that it does not name belong to other parts."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Weights(Argument):
    """A set of weights of a checkpoint."""

    name: str


class FeatureSettings(Argument):
    """How features are computed."""

    weights: Weights
    pooling: Literal["mean", "mean_std"]
    label: int | None
    augmented: int
    crop: Crop
    latents_as: Literal["sample", "mean"]
    draws: int
    precision: Literal["fp32", "bf16"]
    noise_seed: int


class SearchPlan(Argument):
    """A search for noise levels; `low` and `high` are sigma/alpha."""

    low: float
    high: float
    coarse: int
    rounds: int
    keep: int


class JoinedCell(Argument):
    """Features joined to the chosen ones: their tap and sigma/alpha, or null for the chosen one's."""

    tap: str | None
    sigma: float | None


class CellSelection(Argument):
    """The features that an evaluator sees."""

    combine: list[JoinedCell]
    tokens: bool

    def cells(self, chosen: Cell) -> list[Cell]:
        """The chosen cell and those joined to it, each once."""
        level, tap = chosen
        joined = [
            (level if cell.sigma is None else level_name(cell.sigma), tap if cell.tap is None else cell.tap)
            for cell in self.combine
        ]
        return list(dict.fromkeys([chosen, *joined]))

    def arrays(self, chosen: Cell) -> list[Cell]:
        """The same cells by the names of their arrays, which mark features of every position."""
        return [(level, f"{tap}.tokens" if self.tokens else tap) for level, tap in self.cells(chosen)]


@dataclass(frozen=True)
class EvaluatorArgument:
    """An evaluator with the noise levels that it joins resolved to sigma/alpha."""

    name: str
    settings: Evaluator
    selection: CellSelection

    @classmethod
    def parse(cls, name: str, entry: Mapping[str, Any]) -> Self:
        """From an entry of `job_arguments.evaluators`. Raises pydantic's ValidationError for an unknown kind."""
        settings: Evaluator = Evaluator.model_validate({**entry, "combine": []})
        return cls(name, settings, CellSelection.model_validate(entry))


class SampleArgument(Argument):
    """The samples of one checkpoint by one sampler."""

    seed: int
    sampler: dict[str, Any]
    weights: dict[str, Any]
    keep: int  # images that are written
    images: int | None = None  # images that are measured, where they are drawn in the same job


class GenerationArgument(Argument):
    """How samples are measured."""

    row: dict[str, Any]  # columns that all rows of the results share
    extractors: dict[str, dict[str, Any]]
    figures: list[str] | Literal["all"]
    metrics: Metrics


def parse_extractor(entry: Mapping[str, Any]) -> Extractor:
    """An extractor from `job_arguments.extractor`. Raises pydantic's ValidationError for an unknown kind."""
    if set(entry) == {"kind"}:  # trained by the workflow: its weights, an input of their own, say the rest
        return ClassifierExtractor.model_construct(**entry)
    return Extractor.model_validate(entry)
