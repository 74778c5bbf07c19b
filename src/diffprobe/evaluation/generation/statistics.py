"""What one pass over images collects for every figure: moments, sFID's moments, scores, and the features of a subset.

All of it is float64 (the subset's features as they come), merges with that of another process, and is the same for
any batch size: what an image counts for follows from its index alone.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffprobe.config.names import OF_SUBSET
from diffprobe.evaluation.generation.extractors import Extractor, Features
from diffprobe.evaluation.generation.moments import Moments
from diffprobe.evaluation.generation.scores import Scores, splits_of
from diffprobe.runtime.errors import UserError
from diffprobe.runtime.keyed import Key, permutation

ORDER = Key(0, "subset")  # a fixed random order, so that sets which are sorted by class are drawn from evenly


@dataclass(frozen=True)
class Plan:
    """Which of n images serve what: the first `most` in a fixed random order are the subset."""

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
        """The subset's name, for receipts."""
        return {"images": self.subset, "rule": f"the first in the order of Philox key {ORDER.seed}/{ORDER.purpose}"}


class Statistics:
    """One set of images under one extractor, as far as the figures asked for need it."""

    def __init__(self, plan: Plan, extractor: Extractor, figures: Collection[str]) -> None:
        self.plan, self.extractor = plan, extractor.name
        self.moments = Moments(extractor.dim)
        self.spatial = Moments(extractor.spatial) if extractor.spatial and "sfid" in figures else None
        scored = extractor.classes and "is" in figures
        self.scores = Scores(splits_of(plan.n), extractor.classes) if scored else None
        self.subset = Subset(plan.subset if set(OF_SUBSET) & set(figures) else 0)

    @property
    def n(self) -> int:
        """Images taken in so far."""
        return self.moments.n

    def update(self, start: int, features: Features) -> None:
        """Take in the features of images start, start + 1, ... Raises UserError where they are not finite."""
        if not torch.isfinite(features.pooled).all():
            raise UserError(
                f"{self.extractor} has features that are not finite for some of images {start} to "
                f"{start + len(features.pooled) - 1}: check its weights and what it takes"
            )
        places = self.plan.places[start : start + len(features.pooled)]  # (B,)
        self.moments.update(features.pooled)
        if self.spatial is not None:
            self.spatial.update(features.spatial)
        if self.scores is not None:
            self.scores.update(features.logits, places * len(self.scores.counts) // self.plan.n)
        self.subset.update(features.pooled, places)

    def merge(self, other: "Statistics") -> None:
        """Take in all that `other` has of the same plan."""
        for name, part in self.parts().items():
            part.merge(other.parts()[name])

    def parts(self) -> dict[str, "Moments | Scores | Subset"]:
        """What is collected, by name."""
        found = {"moments": self.moments, "spatial": self.spatial, "scores": self.scores, "subset": self.subset}
        return {name: part for name, part in found.items() if part is not None}

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors on the CPU, for a file or another process."""
        return {f"{name}.{key}": x for name, part in self.parts().items() for key, x in part.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Be what `state` was taken from; this one is to be new and of the same plan, extractor and figures."""
        for name, part in self.parts().items():
            inner = {key.removeprefix(f"{name}."): x for key, x in state.items() if key.startswith(f"{name}.")}
            setattr(self, name, type(part).of(inner))


class Subset:
    """The features of the images whose place is below `size`, by place."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.places: list[Tensor] = []
        self.rows: list[Tensor] = []

    def update(self, features: Tensor, places: Tensor) -> None:
        """Take in a batch: features (B, D), places (B,)."""
        chosen = places < self.size
        if chosen.any():
            self.places.append(places[chosen])
            self.rows.append(features[chosen.to(features.device)].float().cpu())

    def merge(self, other: "Subset") -> None:
        """Take in all of `other`, which stays as it is."""
        self.places += other.places
        self.rows += other.rows

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors, for a file or another process."""
        empty = torch.empty(0, 0), torch.empty(0, dtype=torch.int64)
        rows, places = (torch.cat(self.rows), torch.cat(self.places)) if self.rows else empty
        return {"size": torch.tensor(self.size), "rows": rows, "places": places}

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> "Subset":
        """What `state` gave, once more."""
        found = cls(int(state["size"]))
        if len(state["places"]):
            found.places, found.rows = [state["places"]], [state["rows"]]
        return found

    @property
    def features(self) -> Tensor | None:
        """float32 (size, D) in the order of places; None where none were asked for."""
        if not self.rows:
            return None
        return torch.cat(self.rows)[torch.cat(self.places).argsort()]
