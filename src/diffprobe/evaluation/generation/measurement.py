"""What is measured of one set of samples: extractors with their references, statistics of a pass, rows and receipt."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from diffprobe.config.models import Metrics
from diffprobe.evaluation.generation import extractors, figures, reference
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.extractors import FeatureExtractor
from diffprobe.evaluation.generation.figures import FigureRow, Request
from diffprobe.evaluation.generation.reference import Reference
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.plan.arguments import GenerationArgument, parse_extractor
from diffprobe.runtime.files import digest
from diffprobe.runtime.receipts import code_version


@dataclass(frozen=True)
class Measurement:
    """The requested figures by one or more extractors; extractors and references go by their names in the config."""

    request: Request
    metrics: Metrics
    extractors: Mapping[str, FeatureExtractor]
    references: Mapping[str, Reference]
    device: torch.device

    @classmethod
    def load(
        cls,
        argument: GenerationArgument,
        weights: Mapping[str, Path],
        references: Mapping[str, Path],
        device: torch.device,
    ) -> Self:
        """From a job's argument and the files of its extractors."""
        loaded = {
            name: extractors.make(parse_extractor(entry), weights.get(name), device)
            for name, entry in argument.extractors.items()
        }
        stored = {name: reference.read(references[name], extractor) for name, extractor in loaded.items()}
        return cls(argument.figures, argument.metrics, loaded, stored, device)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that statistics are collected for."""
        return figures.figure_names(self.request)

    def plan(self, n: int) -> SubsetPlan:
        """For n images. Raises UserError where they do not allow what is requested."""
        plan = SubsetPlan(n, self.metrics.subset)
        figures.refuse(self.request, self.extractors, self.references, plan, self.metrics)
        return plan

    def autosave(self, path: Path, samples: Any, seconds: float) -> Autosave:
        """A file for statistics of `samples` (anything that JSON can hold), void for other extractors or other code."""
        identities = {name: extractor.identity for name, extractor in self.extractors.items()}
        options = self.metrics.model_dump(include={"subset", "neighbours", "wide_neighbours"})
        return Autosave(path, digest([samples, identities, self.figures, options, code_version()]), seconds)

    def rows(self, statistics: Mapping[str, Statistics]) -> list[FigureRow]:
        """Rows of results. Raises UserError as `figures.compute_figures`."""
        return figures.compute_figures(
            self.request, self.extractors, self.references, statistics, self.metrics, self.device
        )

    def about(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """For the receipt, by extractor."""
        return {
            name: figures.about(self.extractors[name], self.references[name], samples, self.metrics)
            for name, samples in statistics.items()
        }
