"""What is measured of one set of samples: extractors with their references, statistics of a pass, rows and receipt."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffprobe.evaluation.generation import extractors, figures, reference
from diffprobe.evaluation.generation.autosave import Autosave
from diffprobe.evaluation.generation.extractors import Extractor
from diffprobe.evaluation.generation.reference import Reference
from diffprobe.evaluation.generation.statistics import Plan, Statistics
from diffprobe.runtime.files import digest
from diffprobe.runtime.receipts import code_version


@dataclass(frozen=True)
class Measure:
    """`config`: row (common columns), figures, metrics (subset, neighbours, wide_neighbours)."""

    config: dict[str, Any]
    extractors: dict[str, Extractor]
    references: dict[str, Reference]
    device: torch.device

    @classmethod
    def of(
        cls,
        config: dict[str, Any],
        weights: Mapping[str, Path],
        references: Mapping[str, Path],
        device: torch.device,
    ) -> "Measure":
        """From a config subtree with `extractors` by name, and the files of those names."""
        made = {name: extractors.make(found, weights.get(name), device) for name, found in config["extractors"].items()}
        return cls(config, made, {name: reference.read(references[name], made[name]) for name in made}, device)

    @property
    def figures(self) -> tuple[str, ...]:
        """What statistics must be collected for."""
        return figures.wanted(self.config["figures"])

    def plan(self, n: int) -> Plan:
        """For n images. Raises UserError where what is asked for cannot be told of them."""
        plan = Plan(n, self.config["metrics"]["subset"])
        figures.refuse(self.config["figures"], self.extractors, self.references, plan, self.options)
        return plan

    def autosave(self, path: Path, of: Any, seconds: float) -> Autosave:
        """Of the statistics of `of`, which JSON can hold; those by other extractors or other code do not count."""
        extractors = {name: extractor.identity for name, extractor in self.extractors.items()}
        return Autosave(path, digest([of, extractors, self.figures, self.config["metrics"], code_version()]), seconds)

    def rows(self, found: Mapping[str, Statistics]) -> list[dict[str, Any]]:
        """Rows of results. Raises UserError as `figures.figures`."""
        asked, options = self.config["figures"], self.options
        rows = figures.figures(asked, self.extractors, self.references, found, options, self.device)
        return [self.config["row"] | row for row in rows]

    def about(self, found: Mapping[str, Statistics]) -> dict[str, Any]:
        """For the receipt, by extractor."""
        return {
            name: figures.about(self.extractors[name], self.references[name], statistics, self.options)
            for name, statistics in found.items()
        }

    @property
    def options(self) -> dict[str, int]:
        return {name: self.config["metrics"][name] for name in ("neighbours", "wide_neighbours")}
