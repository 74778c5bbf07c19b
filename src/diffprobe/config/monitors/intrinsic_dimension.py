"""Intrinsic dimension."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Integer
from diffprobe.config.monitors import Monitor
from diffprobe.config.problems import Problem


class IntrinsicDimension(Monitor):
    """Intrinsic dimension, from distances to nearest neighbours: TwoNN (Facco et al. 2017), or the maximum likelihood
    estimate of Levina & Bickel (2004), averaged as MacKay & Ghahramani (2005) correct it.
    """

    kind: Literal["intrinsic_dimension"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.monitors.intrinsic_dimension:measure"

    estimator: Literal["twonn", "mle"] = Field("twonn", description="Estimator.")
    neighbours: Integer = Field(20, ge=3, le=1000, description="`mle`: nearest neighbours, which join the name.")

    @property
    def figures(self) -> tuple[str, ...]:
        return (f"dimension_mle{self.neighbours}" if self.estimator == "mle" else "dimension_twonn",)

    def problems(self, key: str, images: int) -> Iterator[Problem]:
        if self.estimator == "mle" and self.neighbours >= images:
            yield f"{key}.neighbours", self.neighbours, f"below the {images:,} images of the subset"
