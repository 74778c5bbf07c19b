"""Logistic regression."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Positive
from diffprobe.config.evaluators import Evaluator


class Logistic(Evaluator):
    """Logistic regression on standardised features, fitted to convergence by L-BFGS."""

    kind: Literal["logistic"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.logistic:fit"
    setting: ClassVar[str] = "strength"

    strength: list[Above0] = Field(
        [1e-5, 1e-4, 1e-3, 1e-2],
        min_length=1,
        description="L2 penalties per image to try; scikit-learn's 1 / (C N), of two classes 2 / (C N).",
    )
    iterations: Positive = Field(200, le=100_000, description="Maximum number of iterations.")
