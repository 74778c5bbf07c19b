"""What one pass over images collects for every figure: moments, sFID's moments, scores, and the features of a subset.

All of it is float64 (the subset's features float32), can be merged with that of another process, and does not depend
on the batch size: what an image contributes to follows from its index alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffprobe.config.names import OF_SUBSET
from diffprobe.evaluation.generation.extractors import FeatureExtractor, Features
from diffprobe.evaluation.generation.inception_score import InceptionScore, splits_of
from diffprobe.evaluation.generation.moments import Moments
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, permutation

ORDER = Key(0, "subset")  # a fixed random order: the first images of a sorted set would all be of one class


@dataclass(frozen=True)
class SubsetPlan:
    """Which of n images are in the subset: the first `most` in a fixed random order."""

    n: int
    most: int

    @cached_property
    def places(self) -> Tensor:
        """int64 (n,): each image's place in the order."""
        places = torch.empty(self.n, dtype=torch.int64)
        places[permutation(ORDER, self.n)] = torch.arange(self.n)
        return places

    @property
    def subset(self) -> int:
        """Images in the subset."""
        return min(self.n, self.most)

    @property
    def about(self) -> dict[str, int | str]:
        """For receipts."""
        return {"images": self.subset, "rule": f"the first in the order of Philox key {ORDER.seed}/{ORDER.purpose}"}


class Statistics:
    """One set of images under one extractor: as much as the figures need."""

    def __init__(self, plan: SubsetPlan, extractor: FeatureExtractor, figures: Collection[str]) -> None:
        self.plan, self.extractor = plan, extractor
        self.moments = Moments(extractor.dim)
        self.spatial = Moments(extractor.spatial) if extractor.spatial and "sfid" in figures else None
        scored = extractor.classes and "is" in figures
        self.scores = InceptionScore(splits_of(plan.n), extractor.classes) if scored else None
        self.subset = SubsetFeatures(plan.subset if set(OF_SUBSET) & set(figures) else 0)

    @property
    def n(self) -> int:
        """Images so far."""
        return self.moments.n

    def update(self, start: int, features: Features) -> None:
        """Add the features of images start, start + 1, ... Raises UserError where they are not finite."""
        present = [x for x in (features.pooled, features.spatial, features.logits) if x is not None]
        if not all(torch.isfinite(x).all() for x in present):
            raise UserError(
                f"{self.extractor.name} has features that are not finite for some of images {start} to "
                f"{start + len(features.pooled) - 1}: check its weights and its input"
            )
        places = self.plan.places[start : start + len(features.pooled)]  # (B,)
        self.moments.update(features.pooled)
        # An extractor that has a map or logits returns them for every batch.
        if self.spatial is not None and features.spatial is not None:
            self.spatial.update(features.spatial)
        if self.scores is not None and features.logits is not None:
            # Splits are equal parts of the random order, so each is a fair sample of all classes.
            self.scores.update(features.logits, places * len(self.scores.counts) // self.plan.n)
        self.subset.update(features.pooled, places)

    def collectors(self) -> dict[str, "Moments | InceptionScore | SubsetFeatures"]:
        """What is collected, by name. Each can be saved as tensors, and add such a state to its own."""
        parts = {"moments": self.moments, "spatial": self.spatial, "scores": self.scores, "subset": self.subset}
        return {name: part for name, part in parts.items() if part is not None}

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors on the CPU, for a file or another process."""
        return {f"{name}.{key}": x for name, part in self.collectors().items() for key, x in part.state().items()}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the state of statistics with the same plan, extractor and figures."""
        for name, collector in self.collectors().items():
            collector.merge({key.removeprefix(f"{name}."): x for key, x in state.items() if key.startswith(f"{name}.")})


class SubsetFeatures:
    """The features of the images whose place is below `size`, by place."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.places: list[Tensor] = []
        self.rows: list[Tensor] = []

    def update(self, features: Tensor, places: Tensor) -> None:
        """Add a batch: features (B, D), places (B,)."""
        chosen = places < self.size
        if chosen.any():
            # Batches and processes come in any order; `features` sorts by place.
            self.places.append(places[chosen])
            self.rows.append(features[chosen.to(features.device)].float().cpu())

    def state(self) -> dict[str, Tensor]:
        return {"rows": torch.cat(self.rows), "places": torch.cat(self.places)} if self.rows else {}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        if state:
            self.places.append(state["places"])
            self.rows.append(state["rows"])

    @property
    def features(self) -> Tensor | None:
        """float32 (size, D) in the order of places; None of an empty subset."""
        if not self.rows:
            return None
        return torch.cat(self.rows)[torch.cat(self.places).argsort()]
