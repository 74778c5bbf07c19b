"""The classes that a classifier itself names."""

from typing import ClassVar, Literal

from diffprobe.config.evaluators import Evaluator


class Logits(Evaluator):
    """The class probabilities of a network that was trained to classify, by its tap `logits`. Nothing is fitted."""

    kind: Literal["logits"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.logits:fit"
    scores_grid: ClassVar[bool] = True
    only_tap: ClassVar[str] = "logits"
