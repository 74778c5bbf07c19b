"""Evaluation with few labels."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, WithJsonSchema

from diffprobe.config.base import Positive, Repeats
from diffprobe.config.evaluators import Evaluator, FewLabels
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset

OF_FEATURES = ("combine", "at", "tokens")  # which this kind has itself


# Without its kinds, since the schema of an evaluator would otherwise contain itself.
Inner = Annotated[Evaluator, WithJsonSchema({"type": "object", "required": ["kind"]})]


def default_head() -> Evaluator:
    """Logistic regression with penalties up to those that a handful of images need."""
    from diffprobe.config.evaluators.logistic import Logistic  # here, so that kinds stay in the order of their names

    return Logistic(kind="logistic", strength=[1e-4, 1e-3, 1e-2, 1e-1, 1.0])


class FewShot(Evaluator):
    """Another evaluator, fitted on a few labelled images of each class, drawn from `train`. A row for each number of
    labels, such as `NAME_10`: mean and spread over the repeats, each of which draws other images. The setting is chosen
    on `select` for each number; the head is not refitted with images of `select`.
    """

    kind: Literal["fewshot"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.fewshot:drawn"
    fit_splits: ClassVar[tuple[str, ...]] = ("train",)

    labels_per_class: list[Positive] = Field([1, 5, 10, 100], min_length=1, description="Numbers of labels per class.")
    repeats: Repeats = Field(
        5,
        description="Draws of images, the same for every experiment on the dataset. The images of a smaller number of "
        "labels are among those of a larger one.",
    )
    evaluator: Inner = Field(
        default_factory=default_head, description="The evaluator, one that is fitted on stored features."
    )

    @property
    def head(self) -> Evaluator:
        return self.evaluator

    @property
    def few_labels(self) -> Sequence[FewLabels | None]:
        return [FewLabels(count, self.repeats) for count in self.labels_per_class]

    @property
    def fitted_on(self) -> Literal["plain", "augmented", "any"]:
        return self.evaluator.fitted_on

    @property
    def only_setting(self) -> dict[str, Any] | None:
        return self.evaluator.only_setting

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        inner, counts = self.evaluator, self.labels_per_class
        if any(inner.few_labels) or inner.joint or not inner.sees_stored_features:
            yield f"{key}.evaluator.kind", inner.kind, "an evaluator that is fitted on stored features of one level"
            return
        for owner, place, other, names in (
            (inner, f"{key}.evaluator", key, OF_FEATURES),
            (self, key, f"{key}.evaluator", ("average", "normalise")),
        ):
            for name in names:
                if (value := getattr(owner, name)) != Evaluator.model_fields[name].default:
                    yield f"{place}.{name}", value, f"its default; set it at {other}"
        if self.levels or inner.levels:
            yield f"{key}.levels", self.levels or inner.levels, "null, since few labels are fitted at one level"
        if counts != sorted(set(counts)):
            yield f"{key}.labels_per_class", counts, "increasing numbers"
        classes, rows = dataset.facts.classes, dataset.split_rows
        if not classes:
            return  # only reading shows how many there are
        least, most = -(-inner.least_images // classes), -(-rows["train"] // classes) if rows else max(counts)
        if min(counts) < least:
            allowed = f"at least {least}, since {inner.kind} needs {inner.least_images} images"
            yield f"{key}.labels_per_class", min(counts), allowed
        if max(counts) > most:
            yield f"{key}.labels_per_class", max(counts), f"at most the labels that exist, about {most:,} per class"
