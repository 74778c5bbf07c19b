"""k-nearest neighbours."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import LATER, Number, Repeats
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset


class KNN(Evaluator):
    """A k-nearest-neighbour classifier on the features of unaugmented images. As published for SODA's codes: `k: [20],
    metric: euclidean, normalise: l2, bank: augmented`.
    """

    kind: Literal["knn"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.neighbours:fit"
    setting: ClassVar[str] = "k"

    k: list[Repeats] = Field([10], min_length=1, description="Number of neighbours.")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="Similarity measure.")
    weighted: bool = Field(
        False, description="Weight votes by exp(similarity / temperature) (Wu et al. 2018); `false`: equal votes."
    )
    temperature: Number = Field(
        0.07,
        gt=0,
        description="Temperature of weighted votes; similarity is the cosine or the negative squared distance.",
    )
    bank: Annotated[Literal["plain", "augmented"], LATER] = Field(
        "plain",
        description="The images that are searched: unaugmented, or `augmented`: each one's first augmented copy.",
    )

    @property
    def fitted_on(self) -> Literal["plain", "augmented", "any"]:
        return self.bank

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        rows = dataset.split_rows
        if rows and max(self.k) > max(rows["train"], 1):
            yield f"{key}.k", max(self.k), f"at most the number of train images (about {rows['train']:,})"
