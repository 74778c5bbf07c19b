"""Logistic regression."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Positive
from diffprobe.config.evaluators import Evaluator


class Logistic(Evaluator):
    """Logistic regression to convergence (L-BFGS) on standardised features."""

    kind: Literal["logistic"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.logistic:fit"
    setting: ClassVar[str] = "strength"

    strength: list[Above0] = Field(
        [1e-5, 1e-4, 1e-3, 1e-2], min_length=1, description="L2 penalties per image: 1 / (C N) of scikit-learn."
    )
    iterations: Positive = Field(200, description="At most so many.")
