"""What is measured of one set of samples: extractors with their references, statistics of a pass, rows and receipt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from diffprobe.config.models import Metrics
from diffprobe.evaluation.generation import extractors, figures, reference
from diffprobe.evaluation.generation.autosave import SavedStatistics
from diffprobe.evaluation.generation.figures import FigureRow, Request, Subject
from diffprobe.evaluation.generation.statistics import Statistics, SubsetPlan
from diffprobe.networks.flops import flops
from diffprobe.plan.arguments import GenerationArgument
from diffprobe.runtime.code_hashes import code_version
from diffprobe.runtime.files import digest


@dataclass(frozen=True)
class Measurement:
    """The requested figures by one or more extractors."""

    request: Request
    metrics: Metrics
    subjects: Sequence[Subject]
    device: torch.device

    @classmethod
    def load(
        cls,
        argument: GenerationArgument,
        weights: Mapping[str, Path],
        references: Mapping[str, Path],
        device: torch.device,
    ) -> Self:
        """From a job's argument, and the files of its extractors by their names."""
        subjects = []
        for name, settings in argument.extractors.items():
            extractor = extractors.make(settings, weights.get(name), device)
            subjects.append(Subject(name, extractor, reference.read(references[name], extractor)))
        return cls(argument.figures, argument.metrics, subjects, device)

    def new_statistics(self, n: int) -> list[Statistics]:
        """Empty statistics of n images, by each extractor. Raises UserError where n does not allow the request."""
        plan = SubsetPlan(n, self.metrics.subset)
        figures.refuse(self.request, self.subjects, plan, self.metrics)
        names = figures.figure_names(self.request)
        return [Statistics(plan, subject.extractor, names) for subject in self.subjects]

    def image_flops(self, shape: tuple[int, int, int]) -> int:
        """The FLOPs of all extractors on one image of `shape` (H, W, C)."""
        image = torch.zeros(1, *shape, dtype=torch.uint8, device=self.device)
        return sum(flops(partial(subject.extractor.apply, image)) for subject in self.subjects)

    def autosave(self, path: Path, samples: object, seconds: float) -> SavedStatistics:
        """A file for statistics of `samples` (anything that JSON can hold), void for other extractors or other code."""
        identities = [[subject.name, subject.extractor.identity] for subject in self.subjects]
        options = self.metrics.model_dump(include={"subset", "neighbours", "wide_neighbours"})
        request = figures.figure_names(self.request)
        return SavedStatistics(path, digest([samples, identities, request, options, code_version()]), seconds)

    def rows(self, statistics: Sequence[Statistics]) -> list[FigureRow]:
        """Rows of results. Raises UserError as `figures.compute_figures`."""
        return figures.compute_figures(self.request, self.subjects, statistics, self.metrics, self.device)

    def about(self, statistics: Sequence[Statistics]) -> dict[str, Any]:
        """For the receipt, by extractor."""
        pairs = zip(self.subjects, statistics, strict=True)
        return {
            one.name: figures.about(one.reference, samples, self.metrics) for one, samples in pairs if one.reference
        }
