"""Similarity to another encoder."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Name, Positive
from diffprobe.config.monitors import Monitor
from diffprobe.config.problems import Problem

Neighbours = Annotated[Positive, Field(le=100)]


class SimilarityTo(Monitor):
    """Similarity to the features that another encoder has of the same images, without noise: linear CKA (Kornblith et
    al. 2019), and CKNNA (Huh et al. 2024) of features divided by their norm.
    """

    kind: Literal["similarity"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.monitors.similarity:measure"

    to: Name = Field(description="Entry of `extractors`.")
    neighbours: Neighbours = Field(10, description="Nearest neighbours k of CKNNA.")

    @property
    def figures(self) -> tuple[str, ...]:
        return f"cka_{self.to}", f"cknna{self.neighbours}_{self.to}"

    @property
    def encoder(self) -> str:
        return self.to

    def problems(self, key: str, images: int) -> Iterator[Problem]:
        if self.neighbours >= images:
            yield f"{key}.neighbours", self.neighbours, f"below the {images:,} images of the subset"
