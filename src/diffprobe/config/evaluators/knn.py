"""k-nearest neighbours."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from diffprobe.config.base import LATER, Above0, Repeats
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset


# Efficient Probing's settings (Psomas et al., ICLR 2026).
EP = {"k": [5, 10, 15, 20, 50, 100, 200], "temperature": [0.07, 0.1, 0.2], "weighted": True, "metric": "cosine"}


class KNN(Evaluator):
    """A k-nearest-neighbour classifier on the features of unaugmented images. As published for SODA's codes: `k: [20],
    metric: euclidean, normalise: l2, bank: augmented`;
    for Efficient Probing's `protocol: ep`.
    """

    kind: Literal["knn"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.neighbours:fit"
    setting: ClassVar[str] = "k"

    protocol: Literal["ep"] | None = Field(
        None,
        exclude=True,  # the settings stand in job arguments
        description="`ep`: as published for Efficient Probing (Psomas et al., ICLR 2026), where a key is not set: "
        "weighted votes by cosine, of 5 to 200 neighbours at three temperatures; null: the defaults below.",
    )
    k: list[Repeats] = Field([10], min_length=1, description="Number of neighbours.")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="Similarity measure.")
    weighted: bool = Field(
        False, description="Weight votes by exp(similarity / temperature) (Wu et al. 2018); `false`: equal votes."
    )
    temperature: Above0 | Annotated[list[Above0], Field(min_length=1)] = Field(
        0.07,
        description="Temperature of weighted votes, or several to try with each k; similarity is the cosine or the "
        "negative squared distance.",
    )
    bank: Annotated[Literal["plain", "augmented"], LATER] = Field(
        "plain",
        description="The images that are searched: unaugmented, or `augmented`: each one's first augmented copy.",
    )

    @model_validator(mode="before")
    @classmethod
    def published(cls, settings: Any) -> Any:
        """A protocol's settings, where there are none of their own."""
        return EP | settings if isinstance(settings, dict) and settings.get("protocol") == "ep" else settings

    @property
    def tried(self) -> list[dict[str, float]]:
        """All settings, the temperature among them where there are several."""
        if not isinstance(self.temperature, list):
            return [{"k": k} for k in self.k]
        return [{"k": k, "temperature": temperature} for k in self.k for temperature in self.temperature]

    @property
    def only_setting(self) -> dict[str, Any] | None:
        return self.tried[0] if len(self.tried) == 1 else None

    @property
    def fitted_on(self) -> Literal["plain", "augmented", "any"]:
        return self.bank

    @property
    def least_images(self) -> int:
        return max(self.k)

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        if isinstance(self.temperature, list) and not self.weighted:
            yield f"{key}.temperature", self.temperature, "one number, since votes are not weighted"
        rows = dataset.split_rows
        if rows and self.least_images > max(rows["train"], 1):
            yield f"{key}.k", self.least_images, f"at most the number of train images (about {rows['train']:,})"
