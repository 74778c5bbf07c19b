"""Ridge regression."""

from typing import ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0
from diffprobe.config.evaluators import Evaluator


class Ridge(Evaluator):
    """Ridge regression onto one-hot labels in closed form; one eigendecomposition serves all strengths."""

    kind: Literal["ridge"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.ridge:fit"
    setting: ClassVar[str] = "strength"
    scores_grid: ClassVar[bool] = True

    strength: list[Above0] = Field(
        [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        min_length=1,
        description="L2 penalties per image to try, on standardised features.",
    )
