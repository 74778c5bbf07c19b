"""Segmentation from a few labelled images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffprobe.config.base import Above0, Batch, Images, NotNegative, Positive, Repeats, Width
from diffprobe.config.evaluators import Evaluator
from diffprobe.config.problems import Problem

if TYPE_CHECKING:
    from diffprobe.config.datasets import Dataset
    from diffprobe.config.models import Experiment


class Dense(Evaluator):
    """Segmentation from a few labelled images (Baranchuk et al. 2022): the features of a pixel are those of the chosen
    cell and of `combine`, upsampled bilinearly to the size of the mask and concatenated; networks of two hidden layers
    vote on its class. Rows `NAME_miou`, and `NAME_pixels_miou` of the same networks on raw pixels.
    """

    kind: Literal["dense"]
    build: ClassVar[str] = "diffprobe.evaluation.representation.dense:fit"
    rule: ClassVar[str] = "dense"
    pictures: ClassVar[bool] = True

    images: Images = Field(20, description="Labelled images of `train`.")
    repeats: Repeats = Field(
        5,
        description="Draws of these images, the same for every experiment on the dataset. The images of a smaller "
        "number are among those of a larger one.",
    )
    augmented: NotNegative = Field(
        0,
        le=1000,
        description="Copies of each labelled image besides itself, flipped and cropped with its mask by `probe.crop`, "
        "in pixels.",
    )
    neighbourhood: Positive | None = Field(
        5,
        le=63,
        description="Height and width, odd, of the part of the clean image around a pixel that is fitted for "
        "comparison; null: no comparison.",
    )
    networks: Positive = Field(10, le=1000, description="Networks that vote; a tie goes to the lower class.")
    hidden: tuple[Width, Width] = Field((128, 32), description="Widths of a network's hidden layers.")
    lr: Above0 = Field(1e-3, description="Learning rate, of Adam.")
    batch: Batch = Field(64, ge=2, description="Pixels per step and network, from all labelled images.")
    steps: Positive = Field(
        2000, description="Steps. As published: four passes over all pixels, 82,000 steps for 20 images of 256 x 256."
    )

    def row_names(self, name: str) -> list[str]:
        return [f"{name}_miou", *([f"{name}_pixels_miou"] if self.neighbourhood else [])]

    def problems(self, key: str, dataset: "Dataset") -> Iterator[Problem]:
        if dataset.masks is None:
            yield f"{key}.kind", self.kind, "another kind, or a dataset with masks (see datasets.NAME.masks)"
        for name, allowed in (("levels", None), ("tokens", False), ("normalise", None), ("average", True)):
            if (value := getattr(self, name)) != allowed:
                yield f"{key}.{name}", value, "its default, since a pixel is seen once in all cells (see combine)"
        rows = dataset.split_rows
        if rows and self.images > rows["train"]:
            yield f"{key}.images", self.images, f"at most the images of train, about {rows['train']:,}"
        if self.neighbourhood and self.neighbourhood % 2 == 0:
            yield f"{key}.neighbourhood", self.neighbourhood, "an odd number"

    def model_problems(self, key: str, experiment: "Experiment") -> Iterator[Problem]:
        if self.augmented and experiment.latents:
            yield f"{key}.augmented", self.augmented, "0, since the views of latents leave masks as they are"
        vectors = experiment.task.vector_taps(experiment.network)
        for place, cell in (("at", self.at), *((f"combine.{i}", cell) for i, cell in enumerate(self.combine))):
            if cell and cell.tap in vectors:
                yield f"{key}.{place}.tap", cell.tap, "a tap with positions, which a vector has not"
