"""Nearest neighbours."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Number, Positive
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset


class KNN(Evaluator):
    """The k nearest neighbours among the un-augmented images."""

    kind: Literal["knn"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.neighbours:fit"
    setting: ClassVar[str] = "k"
    plain: ClassVar[bool] = True

    k: list[Positive] = Field([10], min_length=1, description="Neighbours that vote.")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="What is near.")
    weighted: bool = Field(
        False, description="Votes weigh exp(similarity / temperature) (Wu et al. 2018); else each counts one."
    )
    temperature: Number = Field(
        0.07, gt=0, description="Of weighted votes. The similarity is the cosine, or minus the distance's square."
    )

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        rows = dataset.split_rows
        if rows and max(self.k) > max(rows["train"], 1):
            yield f"{key}.k", max(self.k), f"at most the images of train (about {rows['train']:,})"
